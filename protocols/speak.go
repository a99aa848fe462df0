package protocols

import (
	"context"
	"errors"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// voice is for whom a session's peer says that its requests are.
type voice struct {
	person intercept.Spoken
	token  []byte // is proved again when that is due
}

// ErrMute means that the peer may not say for whom its requests are.
var ErrMute = errors.New("this workload may not say for whom it acts: identity.workloads has no speaks_for for it")

// Speaks reports whether the peer may say for whom its requests are.
func (s *Session) Speaks() bool { return s.bound.SpeaksFor && s.o.Speak != nil }

// Speak has requests be for the person whom a token names, from the next Decide
// on, until another is named, the token is over, or Silence. On an error they
// are for nobody: never for whom they were before. It belongs to the goroutine
// that reads the client, and keeps nothing of token.
func (s *Session) Speak(ctx context.Context, token []byte) error {
	s.Silence()
	if !s.Speaks() {
		return ErrMute
	}
	v := &voice{token: append([]byte(nil), token...)}
	var err error
	if v.person, err = s.o.Speak(ctx, v.token); err != nil {
		return err
	}
	s.voice = v
	s.o.Policy.Become(s.bound.For(&v.person))
	return nil
}

// Silence has requests be for nobody but the peer itself.
func (s *Session) Silence() {
	if s.voice == nil {
		return
	}
	clear(s.voice.token)
	s.voice = nil
	s.o.Policy.Become(s.bound)
}

// Principal tells one principal from another: requests of which it is the same
// are for the same person.
func (s *Session) Principal() string {
	if s.voice == nil {
		return ""
	}
	return s.voice.person.Issuer + "\x00" + s.voice.person.Subject
}

// hear holds a request's principal against their token, at each request: when it
// is over the request is refused, and when it must be proved again it is.
func (s *Session) hear(ctx context.Context, r *policy.Request, now time.Time) {
	v := s.voice
	if v == nil || r.Unproved != "" {
		return
	}
	p := &v.person
	switch {
	case !now.Before(p.Expires):
		r.Unproved, r.Remedy = "the token of the person that it is for has expired", "name them again with a new one"
	case !now.Before(p.Fresh):
		again, err := s.o.Speak(ctx, v.token)
		if err == nil && (again.Issuer != p.Issuer || again.Subject != p.Subject) {
			err = errors.New("their token is of somebody else now")
		}
		if err != nil {
			r.Unproved, r.Remedy = "the person that it is for can't be proved any more: "+err.Error(), "name them again with a new token"
			return
		}
		v.person = again
		s.renew()
	}
}
