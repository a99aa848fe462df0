package approval

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sallyport.dev/sallyport/internal/visible"
	"sallyport.dev/sallyport/policy"
)

// Proof is what a token says that was verified: signature, issuer, audience and
// times hold. Whether it proves a decision is told here.
type Proof struct {
	Issuer, Subject string
	Claims          map[string]any
	Issued          time.Time
	LoggedIn        time.Time // when they have logged in for it; zero where that is not said
	Acting          bool      // somebody acts for the subject
	Token           string    // as it was verified
	// Person is the claim by which the issuer's people are told apart; "" is sub, and
	// of SAML nobody.
	Person string
	// SAML is the name of the provider whose assertion it is, which a recorder brought
	// and signed: the weaker proof. "" is an ID token.
	SAML string
	// Answers and Salt: the request that the assertion answers. It must be RequestID.
	Answers string
	Salt    []byte
	// Assertion is its ID at the provider: each proves one decision.
	Assertion string
}

// Decision is one that was taken, with its proof.
type Decision struct {
	Verb    string    `json:"verb"`
	Why     string    `json:"why"`
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	Person  string    `json:"person,omitempty"` // by the claim that names people there
	At      time.Time `json:"at"`
	Token   string    `json:"token"` // whose nonce is Nonce; of SAML what the recorder signed
	// SAML is the provider's name, where that and a recorder's word are the proof.
	SAML      string `json:"saml,omitempty"`
	Assertion string `json:"assertion,omitempty"` // its ID there: it proves nothing again
	// Named is the claim that Person is from.
	Named string `json:"named,omitempty"`
}

// Bounds of a decision.
const (
	LeastWhy = 10  // characters of a justification
	MostWhy  = 500 // bytes
	// freshness is how long after the approver's login a decision must come, slack
	// what clocks may differ.
	freshness = 5 * time.Minute
	slack     = time.Minute
)

// CheckWhy says what is wrong with a justification.
func CheckWhy(why string) error {
	switch {
	case seen(why) < LeastWhy:
		return fmt.Errorf("say why, in %d characters or more", LeastWhy)
	case len(why) > MostWhy || !utf8.ValidString(why) || strings.ContainsFunc(why, odd):
		return fmt.Errorf("a justification is at most %d bytes of plain text", MostWhy)
	}
	return nil
}

// seen counts the characters of a text that are seen: a space only behind another one.
func seen(s string) (n int) {
	space := true
	for _, r := range strings.TrimRightFunc(s, unicode.IsSpace) {
		if is := unicode.IsSpace(r); !is && visible.Rune(r) || is && !space {
			n++
		}
		space = unicode.IsSpace(r)
	}
	return n
}

// odd is a character that acts on what is around it, such as the end of a line.
func odd(r rune) bool {
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
}

// proves reports why a token does not prove a decision about a request.
func (p *Proof) proves(s *Subject, verb, why string, now time.Time) error {
	want, err := Nonce(s, verb, why)
	if err != nil {
		return err
	}
	if err := p.binds(want, s.Asked, now); err != nil {
		return err
	}
	return fourEyes(&s.Who, p)
}

// binds reports why a token is not of what its nonce must be, now; since is when that
// was first there to be proved.
func (p *Proof) binds(want string, since, now time.Time) error {
	nonce, _ := p.Claims["nonce"].(string)
	if p.SAML != "" {
		want, nonce = RequestID(want, p.Salt), p.Answers
	}
	if since.After(now.Add(slack)) {
		// It was asked by a clock that has been set back since: that the token answers it,
		// whose ID nobody could foresee, is all that tells of its age besides its own time.
		since = now.Add(-freshness)
	}
	switch {
	case p.SAML != "" && len(p.Salt) != SaltBytes:
		return fmt.Errorf("what the recorder signed has no salt of %d bytes", SaltBytes)
	case subtle.ConstantTimeCompare([]byte(nonce), []byte(want)) != 1:
		return errors.New("the token is not of this decision: its nonce is another's")
	case p.Issued.IsZero() || p.Issued.Before(since.Add(-slack)):
		return errors.New("the token is older than the request")
	case now.Sub(p.Issued) > freshness+slack:
		return errors.New("the token is too old: log in again")
	case p.Issued.Sub(now) > slack:
		return errors.New("the token is of the future: look at both clocks")
	case p.LoggedIn.IsZero():
		return errors.New("the token does not say when its person has logged in (auth_time), which was asked for (max_age): have the issuer put it in ID tokens of the client for approvals")
	case p.LoggedIn.Before(since.Add(-slack)) || now.Sub(p.LoggedIn) > freshness+slack:
		return errors.New("the token is of a log-in of before: log in again for this decision, with what you log in with; see that the issuer asks for it (prompt=login, max_age=0)")
	case p.LoggedIn.Sub(now) > slack:
		return errors.New("the log-in of the token is of the future: look at both clocks")
	case p.Acting:
		return errors.New("the token is of somebody who acts for another: an approver decides in person")
	}
	return nil
}

// May reports whether a token is of one whom by names: who may see a request may
// decide it, as far as four eyes let them.
func May(by []policy.Approver, p *Proof) bool { return may(by, p) }

// may reports whether a token is of one who may approve.
func may(by []policy.Approver, p *Proof) bool {
	return p.Issuer != "" && p.Subject != "" && slices.ContainsFunc(by, func(a policy.Approver) bool { return matches(&a, p) })
}

func matches(a *policy.Approver, p *Proof) bool {
	if a.SAML != p.SAML || a.SAML == "" && a.Issuer != p.Issuer || a.Subjects == nil && len(a.Claims) == 0 || a.Subjects != nil && !slices.Contains(a.Subjects, p.Subject) {
		return false
	}
	for name, want := range a.Claims {
		if !slices.ContainsFunc(values(p.Claims[name]), func(v string) bool { return slices.Contains(want, v) }) {
			return false
		}
	}
	return true
}

// values are a claim's: of a list its elements, not what is within these.
func values(claim any) (out []string) {
	list, isList := claim.([]any)
	if !isList {
		list = []any{claim}
	}
	for _, v := range list {
		switch v := v.(type) {
		case string:
			out = append(out, v)
		case bool:
			out = append(out, strconv.FormatBool(v))
		case float64:
			// Of one that is larger its last digits are not known: it is nobody's.
			if math.Abs(v) < 1<<53 {
				out = append(out, strconv.FormatFloat(v, 'f', -1, 64))
			}
		case json.Number:
			out = append(out, v.String())
		}
	}
	return out
}
