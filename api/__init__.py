"""What other tools speak: Hubble's Observer API and Arrow Flight SQL over the lake's history.

A thin coat on the door (warehouse.questions.door): it turns requests into questions and answers into messages. Who may see what,
how flows are read and how SQL is confined belong to the warehouse; collecting flows belongs to collectors.
"""
