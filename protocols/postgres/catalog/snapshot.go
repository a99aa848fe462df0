package catalog

import "slices"

// Snapshot is immutable.
type Snapshot struct {
	Version  uint64 // from 1; grows with each change seen, temporary relations apart; no two catalogs of a process have the same
	Database string
	Of       string // which database that is, whatever it is called: of which server, by which number
	Server   int    // server_version_num, e.g. 150008

	ByOID  map[uint32]*Relation
	ByName map[string][]*Relation // by bare name, over all schemas

	Builtin   map[string]bool        // names of functions in pg_catalog
	Functions map[string][]*Function // not built in, by bare name
	BuiltinOp map[string]bool        // names of operators in pg_catalog
	Operators map[string][]*Function // not built in, by name
	Types     map[string][]*Type     // by bare name
	TypeByOID map[uint32]*Type
	Casts     []*Cast // not built in
	// Literals tells which printed definitions hold constants: these could
	// be protected values.
	Literals Literals

	// Former are the names that relations had before, as far as earlier snapshots
	// tell, by their OIDs.
	Former map[uint32][]Name

	since moment // the first that is known to have seen all of it
}

// Name is a relation's.
type Name struct {
	Schema string `json:"schema"`
	Name   string `json:"name"`
}

// Memory is what the relations of a database are and were called.
type Memory struct {
	Of    string            `json:"of"` // the database: see Snapshot
	Names map[uint32][]Name `json:"names"`
}

// MostFormer is how many former names of one relation are kept; one with as many may
// have had others.
const MostFormer = 64

// follow takes over what relations were called in an older snapshot.
func (s *Snapshot) follow(old *Snapshot) {
	s.Former = nil
	if old == nil || !Same(old.Of, s.Of) {
		return
	}
	for oid, r := range s.ByOID {
		was := old.ByOID[oid]
		if was == nil {
			continue
		}
		former := old.Former[oid]
		if n := (Name{was.Schema, was.Name}); (was.Schema != r.Schema || was.Name != r.Name) && !slices.Contains(former, n) && len(former) < MostFormer {
			former = append(slices.Clip(former), n)
		}
		if len(former) > 0 {
			if s.Former == nil {
				s.Former = map[uint32][]Name{}
			}
			s.Former[oid] = former
		}
	}
}

// Memory returns all names that relations have and had; temporary ones and the server's
// own are left out.
func (s *Snapshot) Memory() Memory {
	out := make(map[uint32][]Name, len(s.ByOID))
	for oid, r := range s.ByOID {
		if !r.Temp && !r.System() {
			out[oid] = append(slices.Clip(s.Former[oid]), Name{r.Schema, r.Name})
		}
	}
	return Memory{s.Of, out}
}

// recall takes over what relations were called before the first snapshot. Numbers of
// another database are other relations'.
func (s *Snapshot) recall(m Memory) {
	s.Former = nil
	if !Same(m.Of, s.Of) {
		return
	}
	before := m.Names
	for oid, r := range s.ByOID {
		var former []Name
		for _, n := range before[oid] {
			if n != (Name{r.Schema, r.Name}) && len(former) < MostFormer {
				former = append(former, n)
			}
		}
		if former == nil {
			continue
		}
		if s.Former == nil {
			s.Former = map[uint32][]Name{}
		}
		s.Former[oid] = former
	}
}

// Literals says of each kind of printed definition in user schemas whether
// any of them holds a constant.
type Literals struct{ Indexes, Constraints, Defaults bool }

// Relation is a table, view, materialized view, foreign or partitioned table,
// sequence or index.
type Relation struct {
	OID          uint32
	Schema, Name string
	Kind         byte // pg_class.relkind
	Temp         bool
	RowSecurity  bool
	RowType      uint32 // type OID

	Columns  []*Column // in order, without dropped ones
	Parents  []uint32  // inherits from, or is a partition of
	Children []uint32

	Definition string     // of a view or materialized view, names qualified
	Rules      []string   // names, other than a view's own
	Triggers   []*Trigger // internal ones left out
	Policies   []string   // expressions of row security policies
	Checks     []string   // expressions of CHECK constraints
	Indexes    []*Index
	References []*Reference // foreign keys of this relation
	Referenced []*Reference // foreign keys that point here
	PrimaryKey []string     // column names, nil without one

	Partitioned *Partitioning // nil: it is not

	literals Literals // of its own
}

// Index is an index of a relation.
type Index struct {
	Name        string // schema.name
	Unique      bool   // or an exclusion constraint
	Columns     []string
	Expressions string // comma-separated, "" for none
	Predicate   string
	Ordered     bool // rows can be read in its order
	Clustered   bool // CLUSTER puts the rows in its order
}

// Partitioning is what decides in which partition a row is.
type Partitioning struct {
	Columns     []string
	Expressions string // comma-separated, "" for none
}

// Reference is a foreign key.
type Reference struct {
	From, To        uint32
	Columns, Points []string // of From, and of To in the same order
	OnDelete        bool     // what is deleted of To changes or deletes rows of From
	Cascades        bool     // it deletes them
	OnUpdate        bool     // the same of what is updated
}

// System reports whether the relation is the server's own.
func (r *Relation) System() bool {
	return r.Schema == "pg_catalog" || r.Schema == "information_schema" || r.Schema == "pg_toast"
}

// Column returns the column of that name, nil if there is none.
func (r *Relation) Column(name string) *Column {
	for _, c := range r.Columns {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Column is an attribute of a relation.
type Column struct {
	Num       int16
	Name      string
	Type      uint32
	TypeName  string // as format_type prints it: qualified, with its modifier
	Collation string // qualified and quoted; "" is the database's, or none
	Loose     bool   // values that differ may be equal: the collation is nondeterministic
	NotNull   bool
	Generated bool
	Virtual   bool // generated, and computed whenever it is read
	Identity  bool
	Expr      string // default or generation expression, "" for none
}

// Function is one that is not built in, or an operator: one of the overloads of
// its name, which are the server's to resolve.
type Function struct {
	OID          uint32 // 0 of a trigger's or a cast's
	Schema, Name string
	Extension    bool // belongs to an extension

	// Of an operator, a trigger's and a cast's there is nothing of what follows.
	Kind     byte     // pg_proc.prokind: f, p, a, w
	Language string   // sql, plpgsql, c, ...
	Body     string   // of the first two, as it was written, or as the catalog prints it
	Atomic   bool     // the latter: BEGIN ATOMIC or RETURN; names qualified
	Config   []string // SET clauses, name=value
	Support  bool     // has a planner support function
	Defaults string   // of arguments, comma-separated, names qualified
	Types    []uint32 // of arguments, result and an aggregate's state
	Calls    []Call   // what an aggregate is made of
	Initial  string   // what an aggregate's state begins with
}

// Call is a function by number; those below 16384 are built in.
type Call struct {
	OID  uint32
	Name string
}

// Trigger is what runs when a relation is written.
type Trigger struct {
	Function
	Condition string // the whole CREATE TRIGGER if it has a WHEN, names qualified; else ""
}

// String returns schema.name.
func (f *Function) String() string { return f.Schema + "." + f.Name }

// Type is an entry of pg_type.
type Type struct {
	OID          uint32
	Schema, Name string
	Kind         byte   // pg_type.typtype: b, c, d, e, m, p, r
	Category     byte   // pg_type.typcategory
	Elem         uint32 // of an array
	Base         uint32 // of a domain; what a range is of, and which range a multirange is of
	BaseName     string // of a domain, as format_type prints it
	Checks       []string
	Labels       []string // of an enum, in order
	Default      bool     // a domain with a default
	Runs         []uint32 // functions, not built in, that run on its values without being named
	Extension    bool

	literals bool // Checks hold a constant
}

// Cast is one that is not built in.
type Cast struct {
	OID            uint32
	Source, Target uint32
	Context        byte      // pg_cast.castcontext: e, a, i
	Function       *Function // nil: binary or by I/O
	Extension      bool
}
