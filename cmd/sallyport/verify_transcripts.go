package main

import (
	"fmt"
	"io"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events/recorder"
)

// printTranscripts tells what was found of the transcripts that are kept apart.
func printTranscripts(w io.Writer, t *recorder.TranscriptReport) {
	if t.Bodies == 0 {
		return
	}
	fmt.Fprintf(w, "transcripts: %d bodies, %d of them checked against their records\n", t.Bodies, t.Checked)
	if t.Deleted > 0 {
		fmt.Fprintf(w, "  %d were deleted by rules, which is on the record:\n", t.Deleted)
	}
	for _, d := range t.Deletions {
		fmt.Fprintf(w, "    %s: host %s, session %s, chain %s, block of record %d, by rule %q (%s)\n", d.Time.UTC().Format(time.DateTime),
			render.Line(d.Host), render.Line(d.Session), render.Line(d.Chain), d.First, d.Rule, d.Keep)
	}
	if t.Sealed > 0 {
		fmt.Fprintf(w, "  %d are encrypted and there as they were stored; what they hold was not looked at (give --identity-file)\n", t.Sealed)
	}
}
