package identity

import (
	"fmt"
	"slices"
	"strings"
)

// Workload says what a workload may present.
type Workload struct {
	Name   string
	Issuer string // "" for any that the verifier knows
	// Subjects are those that may present themselves here: the token's
	// subject, or its current actor where it has an act claim.
	Subjects []string
	// SPIFFE is the ID that SPIRE must give its processes, "" where that is
	// not asked. With it and without Subjects it presents no token.
	SPIFFE string
	// InBand: its client sends the token; see Binder.Present.
	InBand bool
	// SpeaksFor lets it say for whom each of its requests is; see Binder.Speak.
	SpeaksFor bool
}

// check returns why a workload can't be had, nil where it can.
func (w *Workload) check() error {
	switch {
	case w.Name == "":
		return fmt.Errorf("workload %q: names must be set and unique", w.Name)
	case len(w.Subjects) == 0 && w.SPIFFE == "":
		return fmt.Errorf("workload %s: subjects: list those that it may present", w.Name)
	case w.InBand && len(w.Subjects) == 0:
		return fmt.Errorf("workload %s: a token in band needs subjects: list those that it may present", w.Name)
	case w.SPIFFE != "" && trustDomain(w.SPIFFE) == "":
		return fmt.Errorf("workload %s: spiffe %q: write spiffe://TRUST.DOMAIN/PATH", w.Name, w.SPIFFE)
	}
	return nil
}

// may refuses a token that the workload may not present.
func (w *Workload) may(t *Token) error {
	if !slices.Contains(w.Subjects, t.Presenter()) {
		return fmt.Errorf("it may not present a token of %q: its own are listed in identity.workloads (subjects)", t.Presenter())
	}
	return nil
}

const spiffeScheme = "spiffe://"

// trustDomain returns the part of a SPIFFE ID that names who gave it,
// "spiffe://trust.domain", and "" for what is no SPIFFE ID with a path.
func trustDomain(id string) string {
	rest, ok := strings.CutPrefix(id, spiffeScheme)
	domain, path, _ := strings.Cut(rest, "/")
	if !ok || domain == "" || path == "" {
		return ""
	}
	return spiffeScheme + domain
}
