package query

import "sallyport.dev/sallyport/policy"

// Describe says in a request what the statement does: all that a decision about it
// depends on. Whoever asks about an analysed statement has the request described by
// this, or two that ask about the same would hear two things.
func (an *Analysis) Describe(r *policy.Request) {
	r.Commands, r.Writes = an.Commands, an.Writes
	r.Objects, r.Kin, r.Via, r.Renames = an.Objects, an.Kin, an.Via, an.Renames
	r.Masked, r.Matched, r.Lookups = an.Masked, an.Matched, an.Lookups
	r.Filtered, r.Untold = an.Filtered, an.Untold
	r.Opaque, r.Remedy = an.Opaque, an.Remedy
	r.Memo = &an.Memo
}

// Reached are Objects, and what else they are.
func (an *Analysis) Reached() []policy.Object {
	if len(an.Kin) == 0 {
		return an.Objects
	}
	return append(an.Objects[:len(an.Objects):len(an.Objects)], an.Kin...)
}
