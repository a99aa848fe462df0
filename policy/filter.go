package policy

// Filter is a condition that every row of a relation must meet to be there for
// a session.
type Filter struct {
	Rows Predicate
	// Unknown is why the condition can't be told for this identity, "" when it
	// can: nothing of the relation may be read or written then.
	Unknown string
}

// Predicate is a condition on one row, in SQL's three-valued logic: a row is
// there where it is true. The zero Predicate holds for no row.
type Predicate struct {
	Op     Op
	Args   []Predicate // of And, Or and Not
	Column string      // of the others
	// Values that the column is compared with: one, or for In any number (with
	// none it is false). Whoever generates a statement quotes them.
	Values []string
}

// Op is what a Predicate says. Zero is false.
type Op uint8

const (
	_ Op = iota
	And
	Or
	Not
	Equal
	Differs
	Less
	AtMost
	More
	AtLeast
	In
	IsNull
)

// Columns calls f for each column that the predicate reads.
func (p *Predicate) Columns(f func(string)) {
	for i := range p.Args {
		p.Args[i].Columns(f)
	}
	if p.Column != "" {
		f(p.Column)
	}
}
