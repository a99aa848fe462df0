package main

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/journal"
	"sallyport.dev/sallyport/events/recorder"
)

// journalReport is a journal.Report with its hash as text.
type journalReport struct {
	journal.Report
	Hash string `json:"hash"`          // of the last record
	Key  string `json:"key,omitempty"` // as events.ReadHostKeys reads it; "" before the first checkpoint
}

// verifyJournal walks a host's own journal, which may be in use, and holds its
// signed checkpoints against its key. heads are what was seen before.
func verifyJournal(folder string, heads []recorder.Head) (*journalReport, error) {
	key, err := journal.ReadHostKey(folder)
	if err != nil {
		return nil, err
	}
	var line string
	ex := journal.Expect{HostKey: key, Message: func(payload []byte) (string, error) {
		var e struct{ Message string }
		err := json.Unmarshal(payload, &e)
		if h, err := events.ParseSignedHead(e.Message); err == nil && h.SignedBy(key) {
			line = events.HostKeyLine(h.Host, key)
		}
		return e.Message, err
	}}
	for _, h := range heads {
		ex.Heads = append(ex.Heads, journal.Head{Chain: h.Chain, Seq: h.Seq, Hash: h.Hash})
	}
	r, err := journal.Verify(folder, ex)
	if err != nil {
		return nil, err
	}
	return &journalReport{Report: r, Hash: hex.EncodeToString(r.Hash[:]), Key: line}, nil
}

func printJournal(w io.Writer, r *journalReport) error {
	fmt.Fprintf(w, "journal, chain %s: records %d to %d in %d segments, %d signed checkpoints, %s\n",
		render.Line(r.Chain), r.First, r.Last, r.Segments, r.Checkpoints, r.Hash)
	if r.Key != "" {
		fmt.Fprintf(w, "  signed with %s\n", render.Line(r.Key))
	}
	if r.Torn > 0 {
		fmt.Fprintf(w, "  %d bytes behind the last record were never finished\n", r.Torn)
	}
	if r.Fault != nil {
		_, err := fmt.Fprintf(w, "NOT SOUND: %s\n", render.Line(r.Fault.String()))
		return err
	}
	_, err := fmt.Fprintln(w, "sound: every record is there, unchanged and in its place")
	return err
}
