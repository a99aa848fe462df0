package recorder

import (
	"errors"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder/transcripts"
)

// TranscriptReport is what Verify found of the transcripts that are kept apart.
type TranscriptReport struct {
	Bodies  int `json:"bodies"`  // that records name
	Checked int `json:"checked"` // there, and their records' hashes are those of what they hold
	// Sealed are there and as they were stored; that they hold what was recorded can be
	// told with an identity of a recipient alone.
	Sealed int `json:"sealed"`
	// Elsewhere are those that were not looked at: nobody said where they are.
	Elsewhere int `json:"elsewhere"`
	// Deleted are those that a rule deleted: the first thousand are Deletions.
	Deleted   int        `json:"deleted"`
	Deletions []Deletion `json:"deletions,omitempty"`
}

// errBlind is of a record whose payload can't be read here.
var errBlind = errors.New("its payload can't be read here")

// bodies fetches what a block keeps apart, and names what should be there and is not.
func (w *walker) bodies(b *storedBlock) error {
	if len(b.apart) == 0 {
		return nil
	}
	w.apart.fetch(w.ctx, w.host, w.chain, b, func(string) bool { return true })
	if err := b.tell(w.ctx, w.tx, w.host, w.chain); err != nil {
		return err
	}
	for i := range b.apart {
		x := &b.apart[i]
		w.found.Bodies++
		first := firstOf(b, x.session)
		var gone *Deleted
		switch err := b.lost[x.session]; {
		case first == 0:
			w.bad(uint64(b.first), "inserted", "the block says of session %s that its transcript is kept apart, and has no record of that", x.session)
		case err == nil:
			w.found.Checked++ // record does that
		case errors.Is(err, ErrSealed):
			w.found.Sealed++
		case errors.Is(err, ErrElsewhere):
			w.found.Elsewhere++
		case errors.As(err, &gone):
			why, err := gone.wrong(w.ctx, w.tx, x)
			if err != nil {
				return err
			}
			if why != "" {
				w.bad(first, "removed", "the transcript of session %s from here on: %s", x.session, why)
			}
			if w.found.Deleted++; len(w.found.Deletions) < reportedAlarms {
				w.found.Deletions = append(w.found.Deletions, gone.Deletion)
			}
		case errors.Is(err, errMissing):
			w.bad(first, "removed", "the transcript of session %s from here on: its body is missing, and no rule deleted it", x.session)
		case errors.Is(err, errBody), errors.Is(err, transcripts.ErrOdd):
			w.bad(first, "changed", "the transcript of session %s from here on: %v", x.session, err)
		default:
			return err // it could not be asked
		}
	}
	return nil
}

// firstOf is the number of the first record of a session's transcript; 0 for none.
func firstOf(b *storedBlock, session string) uint64 {
	for i := range b.records {
		if b.records[i].Kind == 0 && b.records[i].Session == session {
			return b.records[i].Seq
		}
	}
	return 0
}

// blind reports whether a record's payload is not there to be hashed.
func (b *storedBlock) blind(r *events.Record) bool { return r.Kind == 0 && b.lost[r.Session] != nil }
