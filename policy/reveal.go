package policy

import "sallyport.dev/sallyport/events"

// MaskReveal is the Kind of a Mask that shows the value itself. No rule that masks
// has it: it stands in a Scope where a rule reveals a field that others mask, so
// that what is done with the field is known as with any mask.
const MaskReveal = "reveal"

// Justify notes why the client says that it needs to see what is masked from it;
// "" that it does not any more. What was kept of the session's scope is forgotten.
func (s *Session) Justify(why string) {
	if s.justification != why {
		s.justification, s.scope = why, nil
	}
}

// Justification returns it.
func (s *Session) Justification() string { return s.justification }

// Mask returns what stands before a field, the zero Mask for nothing.
func (s *Scope) Mask(f events.Field) Mask {
	return s.Masks[Relation{Schema: f.Schema, Name: f.Relation}][f.Column]
}

// masks tells on the record which fields of a request are masked, and how, and
// which are revealed, and why that is said to be needed. What ev.Masks has room for
// is used again.
func (r *Request) masks(ev *events.Event) {
	kinds := ev.Masks[:0]
	ev.Masked, ev.Masks = r.Masked, nil
	if r.Scope == nil || len(r.Masked) == 0 {
		return
	}
	revealed := 0
	for _, f := range r.Masked {
		k := r.Scope.Mask(f).Kind
		kinds = append(kinds, k)
		if k == MaskReveal {
			revealed++
		}
	}
	if revealed > 0 {
		n := 0
		ev.Masked = make([]events.Field, 0, len(kinds)-revealed)
		for i, f := range r.Masked {
			if kinds[i] == MaskReveal {
				ev.Revealed = append(ev.Revealed, f)
				continue
			}
			ev.Masked = append(ev.Masked, f)
			kinds[n] = kinds[i]
			n++
		}
		kinds = kinds[:n]
		ev.Justification = r.Session.justification
	}
	ev.Masks = kinds
}

// Revealed are the fields of a request that it is shown in clear.
func (r *Request) Revealed() (out []events.Field) {
	for _, f := range r.Masked {
		if r.Scope != nil && r.Scope.Mask(f).Kind == MaskReveal {
			out = append(out, f)
		}
	}
	return out
}

// hides reports whether a field of the request is masked, and not only revealed.
func (r *Request) hides() bool {
	for _, f := range r.Masked {
		if r.Scope == nil || r.Scope.Mask(f).Kind != MaskReveal {
			return true
		}
	}
	return false
}
