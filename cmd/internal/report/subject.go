package report

import (
	"slices"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// sight is what is known of a statement and the subjects that a report is of.
type sight struct {
	shown  bool   // rows of one of them went out
	untold string // why it can't be told whose rows went out
}

// sights are the statements that a report of subjects is of. A statement's record
// comes before those that say whose rows it was shown: so they are looked for first.
type sights struct {
	of        map[key]sight
	asked     map[key][]string // approvals that a statement ran under
	approvals map[string]bool  // those of statements in of
	sessions  map[[2]string]bool
}

// see takes in what a record says of subjects.
func (m *maker) see(host string, r *events.Record) {
	if r.Kind != events.Statement && r.Kind != events.Response && r.Kind != events.Subjects {
		return
	}
	v, err := ocsf.Decode(r.Payload)
	if err != nil {
		return // see record
	}
	if m.seen == nil {
		m.seen = &sights{map[key]sight{}, map[key][]string{}, map[string]bool{}, map[[2]string]bool{}}
	}
	k := key{host, v.Session, v.Number}
	if len(v.Approvals) > 0 {
		m.seen.asked[k] = v.Approvals
	}
	s := m.seen.of[k]
	s.shown = s.shown || slices.ContainsFunc(v.Subjects, func(x string) bool { return slices.Contains(m.Filter.Subjects, x) })
	if v.Untold != "" {
		s.untold = v.Untold
	}
	if s != (sight{}) {
		m.seen.of[k] = s
		m.seen.sessions[[2]string{host, v.Session}] = true
	}
}

// sights are those that see has found, once it has seen all; nil where the report is of
// all subjects.
func (m *maker) sights() *sights {
	if len(m.Filter.Subjects) == 0 {
		return nil
	}
	if m.seen == nil {
		m.seen = new(sights)
	}
	for k := range m.seen.of {
		for _, id := range m.seen.asked[k] {
			m.seen.approvals[id] = true
		}
	}
	m.seen.asked = nil
	return m.seen
}

// has reports whether the report is of a statement.
func (s *sights) has(host string, v *ocsf.View) bool {
	if s == nil {
		return true
	}
	_, ok := s.of[key{host, v.Session, v.Number}]
	return ok
}

func (s *sights) approval(id string) bool { return s == nil || s.approvals[id] }

func (s *sights) session(host, id string) bool { return s == nil || s.sessions[[2]string{host, id}] }

// words says of a statement what is known of it.
func (s *sights) words(host string, v *ocsf.View) string {
	if s == nil {
		return ""
	}
	x := s.of[key{host, v.Session, v.Number}]
	if x.shown {
		return "shown"
	}
	return "not told: " + x.untold
}
