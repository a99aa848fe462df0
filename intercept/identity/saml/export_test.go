package saml

import (
	"context"
	"time"
)

// Open verifies a response whatever request it answers: the door alone.
func (v *Verifier) Open(raw string, now time.Time) (subject string, claims map[string]any, err error) {
	_, s, _, err := v.open(context.Background(), raw, "", now)
	if err != nil {
		return "", nil, err
	}
	return s.subject, s.claims, nil
}
