package desk

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

// What may be asked about emergency access.
const (
	GlassList        = ofGlass + "list"  // what is open or not reviewed
	GlassBegin       = ofGlass + "begin" // for an Opening of a name
	GlassOpen        = ofGlass + approval.OpenGlass
	GlassClose       = ofGlass + approval.CloseGlass
	GlassJustified   = ofGlass + approval.Justified
	GlassUnjustified = ofGlass + approval.Unjustified

	ofGlass = "glass-"
)

// GlassMend is what is asked to close or review, by a verb of approval.Book.Mend.
func GlassMend(verb string) string { return ofGlass + verb }

// OfOne reports that the answer is the one request that has the question's ID.
func (q *Ask) OfOne() bool {
	return (q.Do != List || q.ID != "") && !strings.HasPrefix(q.Do, ofGlass)
}

// glass answers a question about emergency access into a.
func (d *Desk) glass(ctx context.Context, q *Ask, a *Answer) error {
	if d.Glass != nil {
		a.Provided = d.Glass()
	}
	switch q.Do {
	case GlassList:
		var err error
		if a.Glasses, err = d.Book.Glasses(ctx, q.All); err != nil {
			return err
		}
	case GlassBegin:
		return begin(a, q.Name, d.Book.Host())
	default:
		p, err := d.Prove(ctx, q)
		if err != nil {
			return err
		}
		g, err := d.step(ctx, q, p)
		if err != nil {
			return err
		}
		a.Glasses = []approval.Glass{g}
	}
	for i := range a.Glasses {
		for j := range a.Glasses[i].Decisions {
			a.Glasses[i].Decisions[j].Token = ""
		}
	}
	return nil
}

func (d *Desk) step(ctx context.Context, q *Ask, p *approval.Proof) (approval.Glass, error) {
	switch {
	case q.Do != GlassOpen:
		return d.Book.Mend(ctx, q.ID, strings.TrimPrefix(q.Do, ofGlass), q.Why, p)
	case q.Glass == nil:
		return approval.Glass{}, ErrAsk
	}
	return d.Book.Break(ctx, q.Glass, q.Why, p)
}

func begin(a *Answer, name, host string) error {
	for i := range a.Provided {
		if of := &a.Provided[i]; of.Name == name {
			a.Opening = approval.NewOpening(of, time.Now())
			a.Opening.Host = host
			return nil
		}
	}
	return fmt.Errorf("the policy has no break_glass %.100q", name)
}
