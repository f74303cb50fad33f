// Command cilium-policy loads policies into Cilium's own policy engine and answers probes.
//
// It reads one JSON question a line from standard input and writes one JSON answer a line to
// standard output (question.go). Every question stands alone. Parsing, refusals, selectors, rule
// order and the lookup are Cilium's (pkg/policy of the release in go.mod); the identities, the named
// ports and the settings come with the question.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
)

func main() {
	logger := slog.New(slog.NewTextHandler(io.Discard, nil))
	input := bufio.NewReaderSize(os.Stdin, 1<<20)
	output := bufio.NewWriter(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if len(line) > 1 {
			var question Question
			var answer Answer
			if problem := json.Unmarshal(line, &question); problem != nil {
				answer.Error = fmt.Sprintf("unreadable question: %v", problem)
			} else {
				answer = ask(logger, &question)
			}
			encoded, problem := json.Marshal(answer)
			if problem != nil {
				fmt.Fprintln(os.Stderr, problem)
				os.Exit(1)
			}
			output.Write(encoded)
			output.WriteByte('\n')
			output.Flush()
		}
		if err != nil {
			return
		}
	}
}
