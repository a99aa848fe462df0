package protocols

import "context"

// Unproved is why a client that has sent its token is not let in, for it and for
// the record.
type Unproved struct{ Rule, Reason, Remedy string }

func (u *Unproved) Error() string { return u.Reason }

// Asks reports whether the client is to send its token, before anything is
// decided or dialled.
func (s *Session) Asks() bool { return s.o.Present != nil }

// Present proves who the peer is by the token that its client has sent. Without
// it a session that Asks is nobody's, and everything is refused. An error that
// is or wraps Unproved is for the client. It keeps nothing of token. Call it
// once, before the session's first event.
func (s *Session) Present(ctx context.Context, token []byte) error {
	id, account, err := s.o.Present(ctx, token)
	if err != nil {
		return err
	}
	s.bound, s.o.Account = id, account
	s.o.Policy.Renew(id)
	return nil
}
