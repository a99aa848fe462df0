package main

import (
	"fmt"
	"io"

	"sallyport.dev/sallyport/events/recorder"
)

// printTranscripts tells what was found of the transcripts that are kept apart.
func printTranscripts(w io.Writer, t *recorder.TranscriptReport) {
	if t.Bodies == 0 {
		return
	}
	fmt.Fprintf(w, "transcripts: %d bodies, %d of them checked against their records\n", t.Bodies, t.Checked)
	if t.Sealed > 0 {
		fmt.Fprintf(w, "  %d are encrypted and there as they were stored; what they hold was not looked at (give --identity-file)\n", t.Sealed)
	}
}
