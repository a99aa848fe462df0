package protocols

import (
	"context"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// Account is who the passage is at the server, in its client's place: the
// client's own user name and password are then for nothing and go nowhere.
type Account struct {
	// User is the database user for policy and the record; where a source makes
	// users up, where they come from.
	User string
	// Role is what the session is to run as, "" for the user itself.
	Role string
	// Agents, when not nil, are the verifiers of passwords by the user that a
	// client names, in the server's own form: the client must prove that it knows
	// one of them. They never stand for who it is.
	Agents map[string]string
	// Login asks the source for who to log in as. again says that the server has
	// refused what it gave last: it is to look afresh. The answer is the
	// caller's, to be wiped. Errors hold nothing of a secret.
	Login func(ctx context.Context, again bool) (*Login, error)
}

// Login is what an account is proved with.
type Login struct {
	User     string
	Password []byte // or a token; nil where a certificate at the server's door proves it
	Weakest  Method // way to prove it that is gone along with
}

// Wipe overwrites the secret.
func (l *Login) Wipe() {
	if l != nil {
		clear(l.Password)
		l.Password = nil
	}
}

// Method is a way to prove a password, from strong to weak. Each includes those
// before it.
type Method uint8

const (
	// Bound: both sides prove that they know it and, where the server's door is
	// in TLS, that they speak on the same channel (RFC 5929).
	Bound  Method = iota
	Mutual        // both sides prove that they know it
	Hashed        // a hash of it with a challenge is shown
	Clear         // it is shown as it is, inside of TLS only
	None          // the server need not ask
)

// Account returns whom to log in as, nil where the client does that itself.
func (s *Session) Account() *Account { return s.o.Account }

// Prove writes what proves an account to the server that login covers, past the
// queue, so that no copy of it is kept. b stays the caller's, to be wiped.
func (s *Session) Prove(login policy.Decision, b []byte) error {
	if !login.Allowed() {
		return ErrNotAllowed
	}
	if err := s.Flush(); err != nil {
		return err
	}
	if s.server == nil {
		return ErrClosed
	}
	_, err := s.server.Write(b)
	return err
}

// Reopen opens the server's door anew, for another try to log in. Only the
// goroutine that logs in may know of the session yet.
func (s *Session) Reopen(ctx context.Context, login policy.Decision) error {
	if !login.Allowed() {
		return ErrNotAllowed
	}
	if s.server == nil {
		return ErrClosed
	}
	_ = s.server.Close() // it has refused
	c, err := s.o.Dial(ctx)
	if err != nil {
		return err
	}
	s.server = c
	return nil
}

// LoggedIn records as whom, where only the source has known it.
func (s *Session) LoggedIn(user string) error {
	if user == s.o.Account.User {
		return nil
	}
	return s.Event(&events.Event{Kind: events.Lifecycle, Status: "login", Message: "the passage has logged in as database user " + user})
}
