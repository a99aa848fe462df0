package policy

// Mask is one masking method with its parameters. Equal masks compare equal.
// policy/mask says what each does, and what takes which parameter; the zero
// value of a parameter is its absence.
type Mask struct {
	Kind        string // "redact", "null", "partial", ...; keyed: "hash", "token", "format", "fake"
	First, Last int    // partial: characters kept at each end
	Constant    string // redact: the replacement, "" is the default
	Width       int    // bucket: of numbers
	Unit        string // bucket: of dates, "month"
	Earliest    int    // year: what is before shows as this year
	Keep        string // json: the paths that are shown, as mask.Keep makes them
	Of          string // fake: "name", "street", "city", "email"
	Match       bool   // may be found by its stored value, which is told
}

// Relation names a relation of a resource.
type Relation struct{ Schema, Name string }

// Scope is what an identity's rules protect on a resource: the part of policy
// that an analysis of a statement depends on. Immutable.
type Scope struct {
	// ID is equal for two sessions only if the same things are protected from
	// them and the same rules can match, conditions on the session alone
	// included: analyses and cacheable evaluations are kept by it.
	ID string
	// Static reports that the scope depends on the session alone, not on the
	// time: it can be kept until the engine or the identity changes.
	Static bool
	// Opaque reports that nothing but unconditional allow rules can match
	// here: a protocol may relay what it does not understand.
	Opaque bool
	// Undecoded reports that the session may go unread: whatever it did, and as
	// whatever user, in whatever database, it would be allowed, and a rule names
	// just that. It is of a session whose client has named none of them.
	Undecoded bool
	// Approves reports that a rule which asks for approvals can match.
	Approves bool
	// Masks maps relation -> column -> mask.
	Masks map[Relation]map[string]Mask
	// Filters maps relation -> what must all hold of its rows.
	Filters map[Relation][]Filter
	// Detects is what is looked for by its form.
	Detects []Detection
	// Subjects maps relation -> whose its rows are.
	Subjects map[Relation][]Subject
	// Functions are those that policy declares harmless, "schema.name".
	Functions map[string]bool
	// Named are the relations that rules which take something away know by name.
	Named []Named
	// Would is what it would be if the rules were enforced that only observe; nil:
	// none of them is for this session. Nothing that goes to the client or the server
	// depends on it.
	Would *Scope
	// Observers, of a Would, are the names of these rules.
	Observers []string
	// Rules is the engine's own note of which rules can match; nobody else
	// reads it.
	Rules any
}

// Named is what a rule says that it is about: a relation, or a pattern for the names of
// several.
type Named struct {
	Rule, As string   // As: as the rule has it
	Relation Relation // the zero one: it is a pattern
	// Is reports that a relation is meant, and Keeps that the rule would be about it in
	// the same way if it had been renamed to this.
	Is, Keeps func(Relation) bool
}

// Protects reports whether any field is masked or any row left out.
func (s *Scope) Protects() bool { return s == nil || len(s.Masks) > 0 || len(s.Filters) > 0 }
