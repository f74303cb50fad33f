"""Reports: one self-contained HTML page with data files beside it, made from the lake as it was known at one moment.

    made = making.make(settings, lake, request, formats=("html", "csv"), stem="report", by="paula")
    making.write(made, Path())
    verdict = verifying.verify(settings, lake, Path("report.html"))

- `asked`: what is asked for: the report, the window, the subject it is for, and the moment of knowledge
- `model`: what a report consists of: sections with text, figures, a chart and rows
- `reading`: asks the door on behalf of the subject, as of the moment of knowledge, and notes every question
- `fleet`, `owner`, `segmentation`, `access_review`, `changes`: the reports that are ready; `edges` is what two of them share
- `own`: reports of one's own, from YAML
- `drawing`, `page`, `data_files`, `oscal`: charts as SVG, the HTML page, the data files, OSCAL assessment results
- `manifest`: what a report was made from, with the hash of every part
- `making`, `verifying`: make a report; make it again as the lake was known then and compare; `removed` says what left the lake since
- `records`: the table `reports`
- `subjects`, `scheduling`, `sending`: for whom, when, and to which deliveries
"""
