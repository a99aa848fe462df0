package protocols

import "sallyport.dev/sallyport/events"

// Before appends an event that says what the next Reply shows: it is written before. As
// with Event, it is of the peer alone unless e.Session says otherwise.
func (s *Session) Before(e *events.Event) error {
	if e.Session == nil {
		e.Session = s.event
	}
	t, err := s.o.Journal.Append(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if t.After(s.written) {
		s.written = t
	}
	s.mu.Unlock()
	return nil
}
