package approval

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/internal/visible"
	"sallyport.dev/sallyport/policy"
)

// subClaim is the claim that names a person where nothing else is configured. Where
// it is pairwise (OpenID Connect Core 1.0, section 8.1), it names the same person
// otherwise to each client, and tells nobody apart.
const subClaim = "sub"

// maxPerson is the size of a claim that may name a person, in bytes.
const maxPerson = 512

// Known is what one token of the requester's says of whom it names, by claims that
// issuers of approvers name people by.
type Known struct {
	Issuer string            `json:"issuer"`
	Claims map[string]string `json:"claims,omitempty"`
	// Doubtful are those that nobody has checked, like an address without
	// email_verified: they may tell that two are one, and never that they are not.
	Doubtful map[string]string `json:"doubtful,omitempty"`
}

// checked: the issuer says that a claim is so. An address is one that anybody may have
// written there, unless it says that it is verified (OpenID Connect Core 1.0, section
// 5.1; some say it as text). A SAML provider's attributes are its directory's.
func checked(claims map[string]any, name string) bool {
	v, has := claims[name+"_verified"]
	return v == true || v == "true" || !has && name != "email"
}

// said is what claims have by a name, "" where that is not one short text.
func said(claims map[string]any, name string) string {
	vs := values(claims[name])
	if len(vs) != 1 || len(vs[0]) > maxPerson {
		return ""
	}
	return strings.TrimSpace(vs[0])
}

// knownOf is what a session's tokens say of people by the claims names.
func knownOf(s *policy.Session, names []string) (out []Known) {
	add := func(issuer string, claims map[string]any, bySAML bool) {
		k := Known{Issuer: issuer, Claims: map[string]string{}, Doubtful: map[string]string{}}
		for _, n := range names {
			switch p := said(claims, n); {
			case n == subClaim || p == "":
			case bySAML || checked(claims, n):
				k.Claims[n] = p
			default:
				k.Doubtful[n] = p
			}
		}
		out = append(out, k)
	}
	id := &s.Identity
	if len(names) == 0 {
		return nil
	}
	if id.Subject != "" {
		add(id.Issuer, id.Claims, false)
	}
	if id.Person != nil {
		add(id.Person.Issuer, id.Person.Claims, id.Proofs.Principal.By == intercept.ProofSAML)
	}
	return out
}

// person is who a proof names, besides its subject: "" where that is all.
func (p *Proof) person() (string, error) {
	if p.Person == "" || p.Person == subClaim {
		if p.SAML != "" {
			return "", errors.New("the assertion's provider has no approvals.saml[].person, by which people are told apart: nobody can approve by it")
		}
		return "", nil
	}
	who := said(p.Claims, p.Person)
	if who == "" || p.SAML == "" && !checked(p.Claims, p.Person) {
		return "", fmt.Errorf("the token does not say who you are: it has no claim %q that can be relied on, by which the configuration (approvals, person) names people; have the issuer put it in (of ID tokens, a scope may be needed)", p.Person)
	}
	return who, nil
}

var errOwn = errors.New("who asks, and whom it is for, can't approve: somebody else must")

// fourEyes refuses whoever has to do with the request: the requester, the agent,
// and whom they act for, whichever of the workloads of theirs asks. A name counts
// by whatever issuer and in whatever case, for one person may be known to several.
func fourEyes(w *Who, p *Proof) error {
	person, err := p.person()
	if err != nil {
		return err
	}
	names := append([]string{w.Subject, w.Principal, w.Workload, w.SPIFFE}, w.Actors...)
	for _, k := range w.Known {
		names = slices.AppendSeq(slices.AppendSeq(names, maps.Values(k.Claims)), maps.Values(k.Doubtful))
	}
	for _, name := range names {
		if samePerson(name, "", p.Subject, person) {
			return errOwn
		}
	}
	if person == "" {
		return nil
	}
	if p.SAML != "" {
		return toldApart(w, p)
	}
	// By the approver's own issuer their subjects may differ though they are one:
	// each token must say who it is of.
	told := true
	for _, issuer := range []string{w.Issuer, w.PrincipalIssuer} {
		if issuer == p.Issuer {
			told = told && slices.ContainsFunc(w.Known, func(k Known) bool { return k.Issuer == issuer })
		}
	}
	for _, k := range w.Known {
		told = told && (k.Issuer != p.Issuer || k.Claims[p.Person] != "")
	}
	if !told {
		return fmt.Errorf("it can't be told that you are somebody else than who asks: a token of theirs, of your issuer, has no claim %q; have the issuer put it in the tokens of agents and people too, and ask again", p.Person)
	}
	return nil
}

// folded is a name as it is compared: one directory may write it in another case, form
// (Unicode's NFKC) or width than another, with spaces around it, or with characters that
// nobody sees.
func folded(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < 0x80 || visible.Rune(r) || unicode.IsSpace(r) {
			return r
		}
		return -1
	}, name)
	fold := cases.Fold()
	for range 2 { // folding may undo the form, and the form the folding
		name = fold.String(norm.NFKC.String(name))
	}
	return strings.TrimSpace(norm.NFKC.String(name))
}

// samePerson reports that two may be one: that they have a name in common. It is ""
// where there is none.
func samePerson(a, b, x, y string) bool {
	same := func(n, m string) bool {
		return n != "" && m != "" && (strings.EqualFold(n, m) || folded(n) == folded(m))
	}
	return same(a, x) || same(a, y) || same(b, x) || same(b, y)
}
