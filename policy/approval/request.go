package approval

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport.dev/sallyport/policy"
)

// Subject is what is to be approved, and by whom. It never changes: approvers
// decide about its Digest.
type Subject struct {
	ID     string            `json:"id"`
	Host   string            `json:"host,omitempty"` // that asks: what is signed for one host is nothing to another
	Key    string            `json:"key"`            // of what may run with it, hex; see Key
	Rule   string            `json:"rule"`
	Reason string            `json:"reason,omitempty"` // the rule's
	Covers string            `json:"covers"`           // "statement", "shape" or "rule"
	Free   map[int][]string  `json:"free,omitempty"`
	Policy string            `json:"policy"` // digest of all rules, hex
	By     []policy.Approver `json:"by"`
	Count  int               `json:"count"`
	Uses   int               `json:"uses"` // 0: any number
	Grant  time.Duration     `json:"grant"`
	Asked  time.Time         `json:"asked"`
	Until  time.Time         `json:"until"` // waits so long

	Who   Who   `json:"who"`
	Where Where `json:"where"`
	What  What  `json:"what"`
	Says  Says  `json:"says,omitzero"`
}

// Who asks, as it was proved.
type Who struct {
	Workload        string   `json:"workload"`
	SPIFFE          string   `json:"spiffe,omitempty"`
	Issuer          string   `json:"issuer,omitempty"`
	Subject         string   `json:"subject,omitempty"`
	Actors          []string `json:"actors,omitempty"`
	Principal       string   `json:"principal,omitempty"`
	PrincipalIssuer string   `json:"principal_issuer,omitempty"`
	Proof           string   `json:"proof,omitempty"`
	// Proofs say how each name was proved.
	Proofs []Proved `json:"proofs,omitempty"`
	// Known is what their tokens say besides: it tells people apart.
	Known []Known `json:"known,omitempty"`
}

// Proved is how one name of a requester's was proved.
type Proved struct {
	Name  string   `json:"name"`            // "workload", "actor" or "principal"
	By    string   `json:"by"`              // as intercept names it: "oidc+pidfd", ...
	Bound []string `json:"bound,omitempty"` // what ties it to the connection
}

// same reports that two are the same parties by the same issuers; how they were
// proved may differ.
func (w *Who) same(x *Who) bool {
	return w.Workload == x.Workload && w.SPIFFE == x.SPIFFE && w.Issuer == x.Issuer && w.Subject == x.Subject &&
		slices.Equal(w.Actors, x.Actors) && w.Principal == x.Principal && w.PrincipalIssuer == x.PrincipalIssuer
}

// Where it is to run.
type Where struct {
	Resource string `json:"resource"`
	Protocol string `json:"protocol"`
	Database string `json:"database,omitempty"`
	User     string `json:"user,omitempty"`
	Session  string `json:"session,omitempty"`
}

// What is to run: data, which is kept from events.
type What struct {
	Text       string      `json:"text"`
	Parameters []Parameter `json:"parameters,omitempty"`
	Names      []string    `json:"names,omitempty"`    // texts that names in Text stand for
	Meaning    string      `json:"meaning,omitempty"`  // digest of the definitions of what it reaches
	Settings   []string    `json:"settings,omitempty"` // by which texts of values are understood
	Commands   []string    `json:"commands,omitempty"`
	Objects    []string    `json:"objects,omitempty"`  // access and relation
	About      string      `json:"about,omitempty"`    // the one that the rule is about
	Through    string      `json:"through,omitempty"`  // then: that of Objects which is or reaches it, unless it is among them
	Masked     []string    `json:"masked,omitempty"`   // protected fields that it touches, which stay masked
	Revealed   []string    `json:"revealed,omitempty"` // those that it is shown in clear
	Writes     bool        `json:"writes,omitempty"`
	Compared   []string    `json:"compared,omitempty"` // protected fields that it compares by what is stored
	Filtered   []string    `json:"filtered,omitempty"` // relations of which it is not given all rows
}

// Parameter is a bound one. Value is as the client sent it.
type Parameter struct {
	Type   uint32 `json:"type,omitempty"`
	Binary bool   `json:"binary,omitempty"`
	Null   bool   `json:"null,omitempty"`
	Value  []byte `json:"value,omitempty"`
}

// Says is what the requester says of itself. Nothing of it is proved.
type Says struct {
	Justification string   `json:"justification,omitempty"`
	Application   string   `json:"application,omitempty"`
	Comments      []string `json:"comments,omitempty"` // in the statement
}

// MaxShown is the size of what a person can be shown, in bytes.
const MaxShown = 64 << 10

var errTooLong = fmt.Errorf("what would have to be approved is longer than the %d KiB that a person can be shown", MaxShown>>10)

// whoOf returns who a session belongs to.
func whoOf(s *policy.Session) Who {
	id := &s.Identity
	var proofs []Proved
	for _, p := range []Proved{
		{"workload", id.Proofs.Workload.By, id.Proofs.Workload.Bound},
		{"actor", id.Proofs.Actor.By, id.Proofs.Actor.Bound},
		{"principal", id.Proofs.Principal.By, id.Proofs.Principal.Bound},
	} {
		if p.By != "" {
			p.Bound = slices.Clone(p.Bound)
			proofs = append(proofs, p)
		}
	}
	return Who{
		Proofs:   proofs,
		Workload: id.Workload, SPIFFE: id.SPIFFE, Issuer: id.Issuer, Subject: id.Subject, Actors: slices.Clone(id.Actors),
		Principal: id.Principal(), PrincipalIssuer: id.PrincipalIssuer(), Proof: id.Proof,
	}
}

// field writes a value that nothing else can be taken for.
func field(h hash.Hash, b []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	h.Write(n[:])
	h.Write(b)
}

func number(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	field(h, b[:])
}

// Key is the digest of all that an approval is of: rule and policy, who, where,
// what is shown in clear and for what words, and, unless it is of the rule as a whole,
// the exact statement with its literals and parameters, what its names stand for, how
// texts of values are understood, and what stays masked or is left out. In a shape, a free parameter that has one of its values is any of
// them.
func Key(a *policy.Asked) (key [sha256.Size]byte) {
	h := sha256.New()
	field(h, []byte("sallyport approval key 2"))
	field(h, a.Digest[:])
	field(h, a.Policy[:])
	number(h, int(a.Covers))
	s := a.Request.Session
	w := whoOf(s)
	for _, x := range []string{
		w.Workload, w.SPIFFE, w.Issuer, w.Subject, w.Principal, w.PrincipalIssuer,
		s.Resource, s.Protocol, s.Database, s.User,
	} {
		field(h, []byte(x))
	}
	number(h, len(w.Actors))
	for _, x := range w.Actors {
		field(h, []byte(x))
	}
	revealed(h, a.Request)
	if a.Covers != policy.ARule {
		protected(h, a.Request)
		field(h, []byte(a.Request.Text))
		field(h, []byte(a.Exact.Meaning))
		number(h, len(a.Request.Objects)) // the same name may be another's by now
		for _, o := range a.Request.Objects {
			field(h, []byte(o.Access.String()))
			field(h, []byte(o.Schema))
			field(h, []byte(o.Name))
		}
		number(h, len(a.Exact.Settings))
		for _, x := range a.Exact.Settings {
			field(h, []byte(x))
		}
		number(h, len(a.Exact.Names))
		for _, x := range a.Exact.Names {
			field(h, []byte(x))
		}
		number(h, len(a.Exact.Parameters))
		for i := range a.Exact.Parameters {
			parameter(h, a, i)
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// revealed writes which fields are shown in clear, and for what words.
func revealed(h hash.Hash, r *policy.Request) {
	shown := r.Revealed()
	number(h, len(shown))
	for _, f := range shown {
		names(h, f.Schema, f.Relation, f.Column)
	}
	if len(shown) > 0 {
		field(h, []byte(r.Session.Justification()))
	}
}

// protected writes how fields are masked and which rows are there: by the time, and
// by what tokens say of the same people, it may be another way.
func protected(h hash.Hash, r *policy.Request) {
	number(h, len(r.Masked))
	for _, f := range r.Masked {
		names(h, f.Schema, f.Relation, f.Column)
		if r.Scope != nil {
			field(h, fmt.Appendf(nil, "%+v", r.Scope.Mask(f)))
		}
	}
	number(h, len(r.Filtered))
	for _, rel := range r.Filtered {
		names(h, rel.Schema, rel.Name)
		if r.Scope != nil {
			rows, err := json.Marshal(r.Scope.Filters[rel])
			if err != nil { // then two of them are never the same
				rows = []byte(rand.Text())
			}
			field(h, rows)
		}
	}
}

func names(h hash.Hash, of ...string) {
	for _, s := range of {
		field(h, []byte(s))
	}
}

// parameter writes one that is not free, or that it is.
func parameter(h hash.Hash, a *policy.Asked, i int) {
	p := &a.Exact.Parameters[i]
	number(h, int(p.Type))
	if a.Covers == policy.AShape && !p.Null && !p.Binary && slices.Contains(a.Free[i+1], string(p.Value)) {
		number(h, 4)
		return
	}
	kind := 0
	if p.Binary {
		kind |= 1
	}
	if p.Null {
		kind |= 2
	}
	number(h, kind)
	field(h, p.Value)
}

// subject makes what is asked for; what it keeps is its own.
func subject(a *policy.Asked, id, key string, claims []string) (*Subject, error) {
	r := a.Request
	s := r.Session
	shown := len(r.Text) + len(s.Justification()) + len(s.Application)
	for _, p := range a.Exact.Parameters {
		shown += len(p.Value)
	}
	for _, n := range a.Exact.Names {
		shown += len(n)
	}
	for _, n := range a.Exact.Settings {
		shown += len(n)
	}
	if shown > MaxShown || len(r.Objects) > 1000 {
		return nil, errTooLong
	}
	if !utf8.ValidString(r.Text) || slices.ContainsFunc(a.Exact.Names, func(n string) bool { return !utf8.ValidString(n) }) {
		return nil, errors.New("what would have to be approved is not UTF-8")
	}
	asked := a.Now.UTC().Round(0)
	out := &Subject{
		ID: id, Key: key, Rule: a.Rule, Reason: a.Reason, Covers: a.Covers.String(), Free: a.Free, Policy: hex.EncodeToString(a.Policy[:]),
		By: a.By, Count: a.Count, Uses: a.Uses, Grant: a.Grant, Asked: asked, Until: asked.Add(a.Within),
		Who:   whoOf(s),
		Where: Where{Resource: s.Resource, Protocol: s.Protocol, Database: s.Database, User: s.User},
		What:  What{Text: string([]byte(r.Text)), Names: slices.Clone(a.Exact.Names), Meaning: a.Exact.Meaning, Settings: slices.Clone(a.Exact.Settings), Commands: slices.Clone(r.Commands), Writes: r.Writes},
		Says:  Says{Justification: s.Justification(), Application: s.Application},
	}
	out.Who.Known = knownOf(s, claims)
	if s.Event != nil {
		out.Where.Session = s.Event.ID
	}
	for _, p := range a.Exact.Parameters {
		out.What.Parameters = append(out.What.Parameters, Parameter{p.Type, p.Binary, p.Null, slices.Clone(p.Value)})
	}
	for _, o := range r.Objects {
		out.What.Objects = append(out.What.Objects, o.Access.String()+" "+o.String())
	}
	if o := a.About.Object; o.Access != 0 {
		out.What.About = o.Access.String() + " " + o.String()
	}
	if o := a.About.Through; o.Access != 0 {
		out.What.Through = o.Access.String() + " " + o.String()
	}
	for _, f := range r.Masked {
		if r.Scope != nil && r.Scope.Mask(f).Kind == policy.MaskReveal {
			out.What.Revealed = append(out.What.Revealed, f.String())
		} else {
			out.What.Masked = append(out.What.Masked, f.String())
		}
	}
	for _, c := range a.Exact.Comments {
		out.Says.Comments = append(out.Says.Comments, strings.ToValidUTF8(c, "\ufffd"))
	}
	for _, f := range r.Matched {
		out.What.Compared = append(out.What.Compared, f.String())
	}
	for _, rel := range r.Filtered {
		out.What.Filtered = append(out.What.Filtered, rel.Schema+"."+rel.Name)
	}
	return canonical(out)
}

// canonical is a Subject as it is read from the log again: what is no UTF-8 in it is
// replaced, so that its Digest is the same after a restart.
func canonical(s *Subject) (*Subject, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	out := &Subject{}
	return out, json.Unmarshal(b, out)
}

// Digest is of all that an approver is shown: SHA-256 of its JSON, as Go's encoder
// writes it.
func (s *Subject) Digest() ([sha256.Size]byte, error) {
	b, err := json.Marshal(s)
	return sha256.Sum256(b), err
}

// What an approver may say.
const (
	Approve = "approve"
	Deny    = "deny"
	Revoke  = "revoke"
)

// Nonce is what the nonce of an approver's ID token must be for a decision:
// base64url (RFC 4648, section 5, without padding) of SHA-256 over these fields,
// each with its length before it as a big-endian u64: "sallyport approval
// decision 1", the request's ID, its Digest, the verb, the justification.
func Nonce(s *Subject, verb, why string) (string, error) {
	d, err := s.Digest()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	field(h, []byte("sallyport approval decision 1"))
	field(h, []byte(s.ID))
	field(h, d[:])
	field(h, []byte(verb))
	field(h, []byte(why))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)), nil
}
