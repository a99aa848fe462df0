package policy

import "sallyport.dev/sallyport/events"

// Detection is what is looked for, by its form, in the text that goes out of some
// relations, and hidden there.
type Detection struct {
	Rule  string
	Kinds uint64 // a detect.Set
	// On names columns. Without a column it is all of a relation, without a
	// relation all of a schema, and the zero Field is whatever goes out.
	On []events.Field
}

// Concerns reports whether what goes out of a statement that reaches these
// objects is to be looked at.
func (d *Detection) Concerns(objects []Object) bool {
	for _, f := range d.On {
		if reaches(objects, f) {
			return true
		}
	}
	return false
}

// reaches reports whether one of the objects may be what f is of.
func reaches(objects []Object, f events.Field) bool {
	if f == (events.Field{}) {
		return true
	}
	for i := range objects {
		// A schema that is not known may be any.
		o := &objects[i]
		if (o.Schema == f.Schema || o.Schema == "") && (f.Relation == "" || o.Name == f.Relation) {
			return true
		}
	}
	return false
}

// Within returns the part of what is looked for that concerns a statement that
// reaches these objects, nil if nothing does.
func (d *Detection) Within(objects []Object) *Detection {
	var on []events.Field
	for _, f := range d.On {
		if reaches(objects, f) {
			on = append(on, f)
		}
	}
	if on == nil {
		return nil
	}
	return &Detection{Rule: d.Rule, Kinds: d.Kinds, On: on}
}

// Covers reports whether a column of the result of a statement is to be looked at,
// of a Detection that is Within its objects; of is the column of a relation that it is, the zero Field
// for an expression. Only what is another column of a relation that is named by
// its columns is not.
func (d *Detection) Covers(of events.Field) bool {
	named := false
	for _, f := range d.On {
		switch {
		case f.Column == "" || of == (events.Field{}) || f == of:
			return true
		case f.Schema == of.Schema && f.Relation == of.Relation:
			named = true
		}
	}
	return !named
}
