package policy

import "sallyport.dev/sallyport/events"

// Subject says whose each row of a relation is: that of whom a column names. Rows
// that go out leave a keyed hash of it on the record.
type Subject struct {
	Column string // of the relation
	Name   string // what it names: "patient"
}

// Field is the column of a relation that names the subject.
func (s Subject) Field(of Relation) events.Field {
	return events.Field{Schema: of.Schema, Relation: of.Name, Column: s.Column}
}

// owned reports whether one of the objects is a relation whose rows are somebody's.
func (s *Scope) owned(objects []Object) bool {
	if s == nil || len(s.Subjects) == 0 {
		return false
	}
	for i := range objects {
		if s.Subjects[Relation{Schema: objects[i].Schema, Name: objects[i].Name}] != nil {
			return true
		}
	}
	return false
}
