package approval

import (
	"encoding/hex"
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
)

// manyLiterals: of so many not all may be told, and the text itself counts.
const manyLiterals = 256

// plainOf is the Key of a statement whatever its comments and spaces are, hex: who is
// denied one does not ask for it again by another comment.
func plainOf(a *policy.Asked) string {
	r := *a.Request
	if r.Normalized != "" && len(r.Literals) < manyLiterals {
		text := []byte(r.Normalized)
		for i := range r.Literals {
			text = append(append(text, 0), r.Literals[i][:]...)
		}
		r.Text = string(text)
	}
	b := *a
	b.Request = &r
	sum := Key(&b)
	return hex.EncodeToString(sum[:])
}

// deny keeps what is denied for now at hand.
func (b *Book) deny(e *entry) {
	if b.denied == nil {
		b.denied = map[*entry]bool{}
	}
	b.denied[e] = true
}

// denialOf is the denial of the statement that a question is about, nil for none.
// mu is held.
func (b *Book) denialOf(a *policy.Asked, now time.Time) *entry {
	if len(b.denied) == 0 {
		return nil
	}
	plain := plainOf(a)
	for e := range b.denied {
		if e.plain == plain && e.live(now) {
			return e
		}
	}
	return nil
}

// shapeDenied reports that somebody is denied a statement of a shape, or all of a rule:
// emergency access lifts nothing of that, whatever the values are. mu is held.
func (b *Book) shapeDenied(shape, rule, resource string, w *Who, now time.Time) bool {
	for e := range b.denied {
		if e.live(now) && e.Rule == rule && e.Where.Resource == resource && e.Who.party() == w.party() && (e.shape == shape || e.Covers == policy.ARule.String()) {
			return true
		}
	}
	return false
}

// party is a workload and whom it is for, as emergency access names them: another
// actor of the same is no other party.
func (w *Who) party() [3]string {
	name, issuer := w.Principal, w.PrincipalIssuer
	if name == "" {
		name, issuer = w.Subject, w.Issuer
	}
	return [3]string{w.Workload, name, issuer}
}

// givesWay are the digests of the emergency access that a question gives way to, hex.
// Of a workload that serves many people and does not say whom, there are none.
func givesWay(a *policy.Asked) (out []string) {
	if a.Request.Session.Identity.Pooled() {
		return nil
	}
	for _, d := range a.Glass {
		out = append(out, hex.EncodeToString(d[:]))
	}
	return slices.Clip(out)
}
