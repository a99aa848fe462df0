package rules

import (
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

// The variables of conditions; docs/policy.md describes each field.

type identityVar struct {
	Workload  string         `cel:"workload"`
	SPIFFE    string         `cel:"spiffe"`
	Issuer    string         `cel:"issuer"`
	Subject   string         `cel:"subject"`
	Audience  []string       `cel:"audience"`
	Actor     string         `cel:"actor"`
	Actors    []string       `cel:"actors"`
	Principal string         `cel:"principal"`
	Claims    map[string]any `cel:"claims"`

	PrincipalIssuer string                    `cel:"principal_issuer"`
	PrincipalClaims map[string]any            `cel:"principal_claims"`
	ClaimsByIssuer  map[string]map[string]any `cel:"claims_by_issuer"`

	Proof             string   `cel:"proof"` // the weakest
	Strength          int64    `cel:"strength"`
	WorkloadProof     string   `cel:"workload_proof"`
	ActorProof        string   `cel:"actor_proof"`
	PrincipalProof    string   `cel:"principal_proof"`
	Bindings          []string `cel:"bindings"` // the actor's
	PrincipalBindings []string `cel:"principal_bindings"`
	Pooled            bool     `cel:"pooled"`
}

// processVar leaves out what a process chooses for itself.
type processVar struct {
	PID    int64  `cel:"pid"`
	UID    int64  `cel:"uid"`
	GID    int64  `cel:"gid"`
	Exe    string `cel:"exe"`
	Cgroup string `cel:"cgroup"`
}

type resourceVar struct {
	Name     string            `cel:"name"`
	Protocol string            `cel:"protocol"`
	Labels   map[string]string `cel:"labels"`
}

type sessionVar struct {
	User        string `cel:"user"`
	Database    string `cel:"database"`
	Application string `cel:"application"`
}

type objectVar struct {
	Schema string `cel:"schema"`
	Name   string `cel:"name"`
	Access string `cel:"access"`
}

type statementVar struct {
	Commands   []string    `cel:"commands"`
	Objects    []objectVar `cel:"objects"`
	Relations  []string    `cel:"relations"`
	Masked     []string    `cel:"masked"`
	Writes     bool        `cel:"writes"`
	Normalized string      `cel:"normalized"`
	Text       string      `cel:"text"`
}

type requestVar struct {
	Kind   string `cel:"kind"`
	Number int64  `cel:"number"`
}

// native registers a variable of a struct's type, under a name of its own.
func native[T any](variable, name string) cel.EnvOption {
	return cel.Lib(nativeLib{
		ext.NativeTypes(types.NativeTypeFor[T](types.NativeTypeAlias(name)), types.ParseStructTags(true)),
		cel.Variable(variable, cel.ObjectType(name)),
	})
}

type nativeLib []cel.EnvOption

func (l nativeLib) CompileOptions() []cel.EnvOption   { return l }
func (nativeLib) ProgramOptions() []cel.ProgramOption { return nil }

// facts are the variables that a session has from its start.
type facts struct {
	identity *identityVar
	process  *processVar
	resource *resourceVar
	session  *sessionVar
}

func factsOf(s *policy.Session) *facts {
	id, p := &s.Identity, &s.Peer
	return &facts{
		identityOf(id),
		&processVar{int64(p.TGID), int64(p.UID), int64(p.GID), p.Exe, p.Cgroup},
		&resourceVar{s.Resource, s.Protocol, s.Labels},
		&sessionVar{s.User, s.Database, s.Application},
	}
}

func identityOf(id *intercept.Identity) *identityVar {
	v := &identityVar{
		Workload: id.Workload, SPIFFE: id.SPIFFE, Issuer: id.Issuer, Subject: id.Subject, Audience: id.Audience,
		Actor: id.Actor(), Actors: id.Actors, Principal: id.Principal(), Claims: id.Claims,
		PrincipalIssuer: id.PrincipalIssuer(), PrincipalClaims: id.PrincipalClaims(),
		Proof: id.Proof, Strength: int64(intercept.Strength(id.Proof)),
		WorkloadProof: id.Proofs.Workload.By, ActorProof: id.Proofs.Actor.By, PrincipalProof: id.Proofs.Principal.By,
		Bindings: id.Proofs.Actor.Bound, PrincipalBindings: id.Proofs.Principal.Bound,
		ClaimsByIssuer: map[string]map[string]any{}, Pooled: id.Pooled(),
	}
	if p := id.Person; p != nil {
		v.ClaimsByIssuer[p.Issuer] = p.Claims
	}
	if id.Issuer != "" {
		v.ClaimsByIssuer[id.Issuer] = id.Claims
	}
	return v
}

// variables resolves names for one evaluation. The statement is described
// only if a condition asks for it.
type variables struct {
	*facts
	now       time.Time
	req       *policy.Request // nil where the session alone is asked about
	statement *statementVar
}

// ResolveName implements cel.Activation.
func (v *variables) ResolveName(name string) (any, bool) {
	switch name {
	case "identity":
		return v.identity, true
	case "process":
		return v.process, true
	case "resource":
		return v.resource, true
	case "session":
		return v.session, true
	case "now":
		return v.now, !v.now.IsZero()
	}
	if v.req == nil {
		return nil, false
	}
	switch name {
	case "statement":
		if v.statement == nil {
			v.statement = describe(v.req)
		}
		return v.statement, true
	case "request":
		return &requestVar{kindNames[v.req.Kind], int64(v.req.Number)}, true
	}
	return nil, false
}

// Parent implements cel.Activation.
func (v *variables) Parent() cel.Activation { return nil }

var kindNames = map[policy.RequestKind]string{
	policy.Login: login, policy.StatementReq: "statement", policy.PrepareReq: "prepare",
	policy.FunctionCall: functionCall, policy.Replication: replication, policy.Undecoded: undecoded,
}

func describe(r *policy.Request) *statementVar {
	s := &statementVar{Commands: r.Commands, Writes: r.Writes, Normalized: r.Normalized, Text: r.Text}
	seen := map[string]bool{}
	for _, o := range r.Objects {
		s.Objects = append(s.Objects, objectVar{o.Schema, o.Name, o.Access.String()})
		if n := o.String(); !seen[n] {
			seen[n] = true
			s.Relations = append(s.Relations, n)
		}
	}
	for _, f := range r.Masked {
		s.Masked = append(s.Masked, f.String())
	}
	return s
}
