package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sallyport.dev/sallyport/cmd/internal/render"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

// believed is who sallyport takes a process for, and why; with --json it is one
// object.
type believed struct {
	PID    uint32 `json:"pid"`
	UID    uint32 `json:"uid"`
	Exe    string `json:"exe,omitempty"`
	Cgroup string `json:"cgroup,omitempty"`

	Refused string `json:"refused,omitempty"` // why it is nobody

	Workload        string        `json:"workload,omitempty"`
	SPIFFE          string        `json:"spiffe,omitempty"`
	Actor           string        `json:"actor,omitempty"`
	Actors          []string      `json:"actors,omitempty"`
	Principal       string        `json:"principal,omitempty"`
	Issuer          string        `json:"issuer,omitempty"`
	PrincipalIssuer string        `json:"principal_issuer,omitempty"`
	Audience        []string      `json:"audience,omitempty"`
	Proof           string        `json:"proof,omitempty"`
	Strength        int           `json:"strength,omitempty"`
	WorkloadProof   events.Proved `json:"workload_proof,omitzero"`
	ActorProof      events.Proved `json:"actor_proof,omitzero"`
	PrincipalProof  events.Proved `json:"principal_proof,omitzero"`
	Expires         time.Time     `json:"expires,omitzero"`
	SpeaksFor       bool          `json:"speaks_for,omitempty"` // it may say for whom each request is

	Claims map[string]any `json:"claims,omitempty"` // for root alone
}

// believe tells what came of binding a peer.
func believe(p *intercept.Peer, id *intercept.Identity, err error) *believed {
	b := &believed{PID: p.TGID, UID: p.UID, Exe: p.Exe, Cgroup: p.Cgroup}
	if err != nil {
		b.Refused = reasonOf(err)
		return b
	}
	b.Workload, b.SPIFFE, b.Actor, b.Actors, b.Principal = id.Workload, id.SPIFFE, id.Actor(), id.Actors, id.Principal()
	b.Issuer, b.PrincipalIssuer, b.Audience = id.Issuer, id.PrincipalIssuer(), id.Audience
	b.Proof, b.Strength, b.Expires = id.Proof, intercept.Strength(id.Proof), id.Expires
	b.SpeaksFor = id.SpeaksFor
	b.WorkloadProof, b.ActorProof, b.PrincipalProof = proved(id.Proofs.Workload), proved(id.Proofs.Actor), proved(id.Proofs.Principal)
	return b
}

func (b *believed) print(w io.Writer) error {
	var s strings.Builder
	line := func(k, v string) {
		if v != "" {
			fmt.Fprintf(&s, "%-10s %s\n", k, render.Line(v))
		}
	}
	name := func(k, who, issuer string, p events.Proved) {
		if who == "" {
			return
		}
		if issuer != "" {
			who += ", says " + issuer
		}
		line(k, who)
		line("", "by "+p.By+": "+strings.Join(p.Bound, ", "))
	}
	line("process", strings.TrimSpace(fmt.Sprintf("%d %s", b.PID, b.Exe)))
	line("user", fmt.Sprint(b.UID))
	line("cgroup", b.Cgroup)
	if b.Refused != "" {
		line("refused", b.Refused)
		_, err := io.WriteString(w, s.String())
		return err
	}
	name("workload", b.Workload, "", b.WorkloadProof)
	line("spiffe", b.SPIFFE)
	name("actor", b.Actor, b.Issuer, b.ActorProof)
	line("chain", strings.Join(b.Actors, " <- "))
	name("for", b.Principal, b.PrincipalIssuer, b.PrincipalProof)
	if b.SpeaksFor {
		line("speaks", "for people whom it names request by request (sallyport.principal)")
	}
	line("audience", strings.Join(b.Audience, ", "))
	line("proof", fmt.Sprintf("%s, strength %d", b.Proof, b.Strength))
	line("until", b.Expires.Local().Format(time.RFC3339))
	_, err := io.WriteString(w, s.String())
	return err
}
