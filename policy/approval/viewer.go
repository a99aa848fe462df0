package approval

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Viewer is somebody who is shown a request, as the page of approvals names whom it has
// logged in. Nobody proves it to the host: the record says so.
type Viewer struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// ViewerProof is the proof of a Viewer on the record: the page's word.
const ViewerProof = "page"

const (
	// maxViewers of one request are told apart; all others count as one.
	maxViewers = 64
	// seenEvery is how often that one, and whoever has no name, is on the record.
	seenEvery = time.Minute
)

// Check says what is wrong with a name.
func (v *Viewer) Check() error {
	for _, s := range []string{v.Issuer, v.Subject} {
		if s == "" || len(s) > maxPerson || !utf8.ValidString(s) {
			return fmt.Errorf("who looks at it is named by issuer and subject, of %d bytes at most", maxPerson)
		}
	}
	return nil
}

// viewers are those of one request who are on the record since the start.
type viewers struct {
	named map[Viewer]bool
	last  time.Time // of those that are not told apart
}

// fresh reports that a viewer is to be put on the record; the zero Viewer has no name.
func (v *viewers) fresh(by Viewer, now time.Time) bool {
	if by != (Viewer{}) && (v.named[by] || len(v.named) < maxViewers) {
		return !v.named[by]
	}
	return v.last.IsZero() || now.Sub(v.last) >= seenEvery
}

func (v *viewers) note(by Viewer, now time.Time) {
	switch {
	case by == Viewer{} || len(v.named) >= maxViewers:
		v.last = now
	case v.named == nil:
		v.named = map[Viewer]bool{by: true}
	default:
		v.named[by] = true
	}
}

// Show returns one request as an approver is to see it, and notes that somebody
// has.
func (b *Book) Show(id string) (Entry, error) {
	return b.show(context.Background(), id, nil, Viewer{}, "")
}

// ShowTo is Show for somebody who has logged in: what they may not decide they are not
// shown, and the record names them. Whoever is proved decides nothing by that.
func (b *Book) ShowTo(ctx context.Context, id string, by *Proof) (Entry, error) {
	if by == nil {
		return b.show(ctx, id, nil, Viewer{}, "")
	}
	return b.show(ctx, id, by, Viewer{by.Issuer, by.Subject}, "")
}

// ShowClaimed is Show for somebody whom a page names: the record names them, by its
// word.
func (b *Book) ShowClaimed(ctx context.Context, id string, by Viewer) (Entry, error) {
	if err := by.Check(); err != nil {
		return Entry{}, err
	}
	return b.show(ctx, id, nil, by, ViewerProof)
}

func (b *Book) show(ctx context.Context, id string, p *Proof, by Viewer, word string) (Entry, error) {
	if err := b.mu.take(ctx); err != nil {
		return Entry{}, err
	}
	defer b.mu.Unlock()
	e := b.byID[id]
	if e == nil || p != nil && !may(e.By, p) {
		return Entry{}, ErrUnknown
	}
	now := b.timer.at()
	if err := b.see(e, by, word, now); err != nil {
		return Entry{}, err
	}
	v := e.view(now)
	v.State = b.stateOf(e, now.run).String()
	v.History = b.history.of(e)
	return v, nil
}

// see puts on the record who is shown a request, as long as there is what is to run to
// be seen: each viewer once, and those without a name once in a while. mu is held.
func (b *Book) see(e *entry, by Viewer, word string, now instant) error {
	if b.byKey[e.Key] != e || !e.viewers.fresh(by, now.run) {
		return nil
	}
	s := stepOf(events.ApprovalRequest, "seen", e, now, e.left, nil)
	if by != (Viewer{}) {
		decided(s.Approval, &Decision{Issuer: by.Issuer, Subject: by.Subject})
	}
	if word != "" {
		s.Approval.Proof = word
	}
	if err := b.record(s); err != nil {
		return err
	}
	e.viewers.note(by, now.run)
	if e.seen || e.state != policy.Awaited {
		return nil
	}
	return b.write(now, &change{Do: doSee, IDs: []string{e.ID}})
}

// Glance returns one request as List does.
func (b *Book) Glance(ctx context.Context, id string) (Entry, error) {
	if err := b.mu.take(ctx); err != nil {
		return Entry{}, err
	}
	defer b.mu.Unlock()
	e := b.byID[id]
	if e == nil {
		return Entry{}, ErrUnknown
	}
	return b.glance(e, b.timer.at()), nil
}

func (b *Book) glance(e *entry, now instant) Entry {
	v := e.view(now)
	v.State = b.stateOf(e, now.run).String()
	v.What = What{Commands: v.What.Commands, Writes: v.What.Writes}
	v.Who.Known, v.Who.Proofs = nil, nil
	v.Says, v.Free, v.Estimate = Says{}, nil, nil
	v.Key, v.Policy, v.Reason = "", "", ""
	return v
}
