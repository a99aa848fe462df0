package saml

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// saved is what outlives a restart.
type saved struct {
	Accepted []savedLogin
	Seen     []savedAssertion
}

type savedLogin struct {
	Sum      string // SHA-256 of the response, hexadecimal
	Provider string
	Until    time.Time
}

type savedAssertion struct {
	Provider, ID string
	Until        time.Time
}

// Save returns what was believed and is not over, without anything that could
// be presented.
func (l *Logins) Save() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance()
	var s saved
	for sum, x := range l.accepted {
		s.Accepted = append(s.Accepted, savedLogin{hex.EncodeToString(sum[:]), x.provider, x.until})
	}
	for k, until := range l.seen {
		s.Seen = append(s.Seen, savedAssertion{k.provider, k.id, until})
	}
	return json.Marshal(s)
}

// Restore takes in what Save returned, or nothing of it on an error. Call it
// before the first login.
func (l *Logins) Restore(b []byte) error {
	var s saved
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("logins of before: %w", err)
	}
	if max(len(s.Accepted), len(s.Seen)) > maxLogins {
		return fmt.Errorf("logins of before: more than %d", maxLogins)
	}
	accepted, seen := map[[sha256.Size]byte]login{}, map[assertionKey]time.Time{}
	for _, x := range s.Accepted {
		sum, err := hex.DecodeString(x.Sum)
		if err != nil || len(sum) != sha256.Size {
			return fmt.Errorf("logins of before: %q is no SHA-256", x.Sum)
		}
		accepted[[sha256.Size]byte(sum)] = login{x.Provider, x.Until}
	}
	for _, x := range s.Seen {
		seen[assertionKey{x.Provider, x.ID}] = x.Until
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted, l.seen = accepted, seen
	l.advance()
	return nil
}
