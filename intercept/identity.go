package intercept

import (
	"slices"
	"time"
)

// Identity is who a connection belongs to. The zero Identity is nobody and is
// refused everywhere.
//
// Three names are proved and kept apart: Workload, Actor and Principal. The
// fourth name of a session, its database user, is the client's own word: it
// stands in policy.Session and never here.
type Identity struct {
	Workload  string         // name in sallyport.yaml
	SPIFFE    string         // ID of the workload, where SPIRE attested it, else ""
	Issuer    string         // of the token, or the trust domain of the SVID
	Subject   string         // of the token: the agent, or the principal it acts for when Actors is set
	Actors    []string       // RFC 8693 act chain, current actor first
	Claims    map[string]any // all claims of the verified token
	Audience  []string
	Person    *Person // the principal, where a token of their own names them
	Proof     string  // how strongly all of it is proved; see Weakest
	Proofs    Proofs
	Token     [32]byte  // SHA-256 of the token: tells one from another
	Expires   time.Time // after this moment it proves nothing
	NotBefore time.Time
	// SpeaksFor: the workload serves many people, and may say for whom each of
	// its requests is, by a token of theirs; see For.
	SpeaksFor bool
}

// Person is a principal whom a token of their own names (sallyport login).
type Person struct {
	Issuer, Subject string
	Claims          map[string]any
}

// Spoken is a person for whom a workload says that its requests are, by a token
// of theirs that the client itself presents. The zero Spoken is nobody.
type Spoken struct {
	Person
	Proved             Proved
	NotBefore, Expires time.Time
	Fresh              time.Time // how long it may be believed without asking again
}

// Proofs are those of the three names.
type Proofs struct{ Workload, Actor, Principal Proved }

// Proved is how a name was proved. The zero Proved is of a name that is not
// there.
type Proved struct {
	By    string   // one of the Proof constants
	Bound []string // which of the Bound constants held, in order
}

// How a name was proved, from weak to strong; see Strength.
const (
	// ProofBearer: a token that verifies, and that nothing ties to the
	// workload. Whoever has it can present it.
	ProofBearer = "token-bearer"
	// ProofOIDC: a token that verifies, comes from the client itself, and that
	// this workload may present: a person's names the actor (may_act).
	ProofOIDC = "oidc"
	// ProofSAML: what a person's identity provider said of them in answer to a
	// request of this host, believed once, which root tied to the cgroup of the
	// proved process with sallyport exec.
	ProofSAML = "saml+exec"
	// ProofLogin: a person's token, which root tied to the cgroup of the
	// proved process with sallyport exec.
	ProofLogin = "oidc+exec"
	// ProofPidfd: a token that verifies, from the workload's own place, for a
	// process that was proved by pidfd, and that this workload may present.
	ProofPidfd = "oidc+pidfd"
	// ProofOIDCSPIFFE: a token that is bound to the SVID of the process.
	ProofOIDCSPIFFE = "oidc+spiffe"
	// ProofSPIFFE: an SVID that SPIRE gave for the process, proved by pidfd.
	ProofSPIFFE = "spiffe"
)

// What ties a name to the connection.
const (
	BoundSubjects = "subjects" // the workload's list of those that it may present
	BoundAudience = "audience" // the token is for this passage
	BoundParty    = "azp"      // the issuer's list of authorized parties
	BoundCert     = "cnf"      // cnf x5t#S256: the certificate of the workload's SVID
	BoundSPIFFE   = "spiffe"   // the token's subject is the workload's SPIFFE ID
	BoundPidfd    = "pidfd"    // the process that connected is proved to be the one
	BoundMayAct   = "may_act"  // the principal's token names the actor
)

var strengths = []string{ProofBearer, ProofOIDC, ProofSAML, ProofLogin, ProofPidfd, ProofOIDCSPIFFE, ProofSPIFFE}

var strength = map[string]int{
	ProofBearer: 10, ProofOIDC: 20, ProofSAML: 25, ProofLogin: 30, ProofPidfd: 40, ProofOIDCSPIFFE: 50, ProofSPIFFE: 60,
}

// Strengths lists the proofs that there are, from weak to strong.
func Strengths() []string { return slices.Clone(strengths) }

// Strength orders proofs: the more, the stronger. 0 is no proof that is known.
// There is room between them, so that a number in a policy keeps its meaning.
func Strength(proof string) int { return strength[proof] }

// Bindings lists what can tie a name to the connection.
func Bindings() []string {
	return []string{BoundSubjects, BoundAudience, BoundParty, BoundCert, BoundSPIFFE, BoundPidfd, BoundMayAct}
}

// Holds reports that a binding held.
func (p *Proved) Holds(binding string) bool { return slices.Contains(p.Bound, binding) }

// Weakest returns the weakest proof of the names that are there, "" where one
// of them has no proof that is known.
func (id *Identity) Weakest() string {
	weakest := ""
	for _, x := range []struct{ name, by string }{
		{id.Workload, id.Proofs.Workload.By}, {id.Actor(), id.Proofs.Actor.By}, {id.Principal(), id.Proofs.Principal.By},
	} {
		switch s := Strength(x.by); {
		case x.name == "":
		case s == 0:
			return ""
		case weakest == "" || s < Strength(weakest):
			weakest = x.by
		}
	}
	return weakest
}

// Valid reports whether the identity may be used at now.
func (id *Identity) Valid(now time.Time) bool {
	return id != nil && id.Workload != "" && id.Proof != "" && now.Before(id.Expires) && !now.Before(id.NotBefore)
}

// Same reports that another proof names the same parties by the same issuers.
func (id *Identity) Same(x *Identity) bool {
	person := func(p *Person) Person {
		if p == nil {
			return Person{}
		}
		return *p
	}
	p, q := person(id.Person), person(x.Person)
	return id.Workload == x.Workload && id.SPIFFE == x.SPIFFE && id.SpeaksFor == x.SpeaksFor && id.Issuer == x.Issuer && id.Subject == x.Subject &&
		slices.Equal(id.Actors, x.Actors) && p.Issuer == q.Issuer && p.Subject == q.Subject
}

// For returns the identity with a person as its principal. A principal that it
// has already must be the same, and keeps its better proof.
func (id *Identity) For(s *Spoken) Identity {
	who, person := *id, s.Person
	if id.Principal() == "" {
		who.Proofs.Principal = s.Proved
	}
	who.Person = &person
	if s.Expires.Before(who.Expires) {
		who.Expires = s.Expires
	}
	if s.NotBefore.After(who.NotBefore) {
		who.NotBefore = s.NotBefore
	}
	who.Proof = who.Weakest()
	return who
}

// Pooled reports that it is of a workload which serves many people, and that
// nobody says for whom it acts: the workload is all that is known.
func (id *Identity) Pooled() bool { return id.SpeaksFor && id.Principal() == "" }

// Actor returns who is acting: the current actor of the chain, else Subject.
func (id *Identity) Actor() string {
	if len(id.Actors) > 0 {
		return id.Actors[0]
	}
	return id.Subject
}

// Principal returns on whose behalf: Subject when an actor chain stands in
// the token, else the Person, else "".
func (id *Identity) Principal() string {
	if len(id.Actors) > 0 {
		return id.Subject
	}
	if id.Person != nil {
		return id.Person.Subject
	}
	return ""
}

// PrincipalIssuer returns who vouches for the principal, "" where there is none.
func (id *Identity) PrincipalIssuer() string {
	switch {
	case len(id.Actors) > 0:
		return id.Issuer
	case id.Person != nil:
		return id.Person.Issuer
	}
	return ""
}

// PrincipalClaims returns the claims of the token that names the principal.
func (id *Identity) PrincipalClaims() map[string]any {
	switch {
	case id.Person != nil:
		return id.Person.Claims
	case len(id.Actors) > 0:
		return id.Claims
	}
	return nil
}
