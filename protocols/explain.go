package protocols

import (
	"context"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Explain asks the Gate what it would decide about a request of this session,
// which is not to be sent. Identities are proved again as in Decide.
func (s *Session) Explain(ctx context.Context, r *policy.Request) (policy.Explanation, error) {
	r.Session = s.o.Policy
	now := time.Now()
	s.prove(ctx, now)
	s.hear(ctx, r, now)
	return s.o.Gate.Explain(ctx, r)
}
