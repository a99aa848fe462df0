package rules

import (
	"cmp"
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// MaskedField is a field with its mask, as a rule has them.
type MaskedField struct {
	Rule, File string
	Line       int
	Field      events.Field
	Mask       policy.Mask
}

// Masked lists what rules mask in the sessions of a resource and a database,
// whoever asks, in the order of the files.
func (p *Policy) Masked(s *policy.Session) []MaskedField {
	var out []MaskedField
	for _, x := range p.rules {
		if x.effect != policy.EffectMask || !x.where.match(s, false) {
			continue
		}
		for f, m := range x.masks {
			out = append(out, MaskedField{Rule: x.name, File: x.file, Line: x.fields[f], Field: f, Mask: m})
		}
	}
	slices.SortFunc(out, func(a, b MaskedField) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return out
}
