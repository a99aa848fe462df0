package ocsf

import "sallyport.dev/sallyport/events"

// subjects writes whose rows went out. None is left out: there are at most
// events.MaxSubjects.
func (e *enc) subjects(ev *events.Event) {
	if len(ev.Subjects) > 0 {
		e.key("subjects")
		e.b = append(e.b, '[')
		for i := range ev.Subjects {
			if i > 0 {
				e.b = append(e.b, ',')
			}
			s := &ev.Subjects[i]
			e.b = append(e.b, '"')
			e.escape(s.Name)
			e.b = append(e.b, ':')
			e.hex(s.Key[:])
			e.b = append(e.b, '"')
		}
		e.b = append(e.b, ']')
	}
	if ev.Named > 0 {
		e.num("subjects_named", ev.Named)
	}
	e.str("subjects_unknown", ev.Untold, capText)
}
