package approval

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Opening is emergency access that somebody opens, or has opened: what of a policy's
// BreakGlass, and for whom exactly. It never changes: who opens it signs its digest.
type Opening struct {
	ID       string `json:"id"`
	Host     string `json:"host,omitempty"` // where alone it is opened
	Name     string `json:"name"`           // of the policy's BreakGlass
	Policy   string `json:"policy"`         // that one's digest, hex
	Resource string `json:"resource"`
	Workload string `json:"workload"`
	// For is the session's principal; of one that has none, the subject of its own
	// token; "" where it has no token either.
	For       string        `json:"for,omitempty"`
	ForIssuer string        `json:"for_issuer,omitempty"`
	Lasts     time.Duration `json:"lasts"`
	Asked     time.Time     `json:"asked"`
}

// NewOpening begins one: its ID, its time and its policy are filled in.
func NewOpening(of *policy.BreakGlass, now time.Time) *Opening {
	return &Opening{
		ID: "bg-" + strings.ToLower(rand.Text())[:20], Name: of.Name, Policy: hex.EncodeToString(of.Digest[:]), Asked: now.UTC().Round(0),
	}
}

// Fits says why a policy's BreakGlass is not for it.
func (o *Opening) Fits(of *policy.BreakGlass) error {
	switch {
	case !slices.Contains(of.Resources, o.Resource):
		return fmt.Errorf("break_glass %q is not for resource %q", o.Name, o.Resource)
	case !slices.Contains(of.Workloads, o.Workload):
		return fmt.Errorf("break_glass %q is not for workload %q", o.Name, o.Workload)
	case (o.For == "") != (o.ForIssuer == "") || len(o.For) > maxPerson || len(o.ForIssuer) > maxPerson:
		return errors.New("whom it is for is named with their issuer")
	case o.Lasts < leastGlass || o.Lasts > of.Longest:
		return fmt.Errorf("break_glass %q may be open for %s at least and %s at most", o.Name, leastGlass, of.Longest)
	case !strings.HasPrefix(o.ID, "bg-") || len(o.ID) != 23:
		return errors.New("it has no ID of its own")
	}
	return nil
}

// Verbs of emergency access, beside Open and Close: what a review finds.
const (
	OpenGlass   = "open"
	CloseGlass  = "close"
	Justified   = "justified"
	Unjustified = "unjustified"
)

// GlassNonce is what the nonce of an ID token must be for a step of emergency access,
// as Nonce is for a decision: of "sallyport break-glass 1", the ID, SHA-256 of the
// Opening's JSON, the verb, and why.
func GlassNonce(o *Opening, verb, why string) (string, error) {
	d, err := o.digest()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	field(h, []byte("sallyport break-glass 1"))
	field(h, []byte(o.ID))
	field(h, d[:])
	field(h, []byte(verb))
	field(h, []byte(why))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}

func (o *Opening) digest() ([sha256.Size]byte, error) {
	b, err := json.Marshal(o)
	return sha256.Sum256(b), err
}

// isOf reports that it is for a party: exactly this workload, for exactly this person,
// on exactly this resource.
func (o *Opening) isOf(resource string, w Who) bool {
	return o.Resource == resource && w.party() == [3]string{o.Workload, o.For, o.ForIssuer}
}

// Glass is emergency access that was opened, and what came of it.
type Glass struct {
	Opening

	Entry policy.BreakGlass `json:"entry"` // as the policy had it
	State string            `json:"state"` // "open", "closed", "expired" or "reviewed"
	// Opened and Ends: it was open, or is, from and until then.
	Opened   time.Time `json:"opened"`
	Ends     time.Time `json:"ends"`
	ReviewBy time.Time `json:"review_by"`
	Used     int       `json:"used"`            // statements that ran under it
	Users    []Who     `json:"users,omitempty"` // whose
	// Decisions are who opened it, who closed it where somebody did, who reviewed it.
	Decisions []Decision `json:"decisions"`
}

// States of emergency access.
const (
	GlassOpen     = "open"
	GlassClosed   = "closed"
	GlassExpired  = "expired"
	GlassReviewed = "reviewed"
)

func (g *Glass) clone() Glass {
	c := *g
	c.Users, c.Decisions = slices.Clone(g.Users), slices.Clone(g.Decisions)
	return c
}
