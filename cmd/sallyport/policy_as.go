package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
)

const asForm = "WORKLOAD[,subject=S][,actor=A][,principal=P][,issuer=URL][,claim.NAME=VALUE][,proof=P][,bound=B][,speaks_for=true][,spiffe=ID][,uid=N][,exe=PATH][,cgroup=PATH]"

// sessionAs makes a session of who --as describes. A claim that is named
// several times is a list.
func sessionAs(as string, now time.Time) (*policy.Session, error) {
	parts := strings.Split(as, ",")
	s := &policy.Session{}
	id := &s.Identity
	id.Workload, id.Claims = parts[0], map[string]any{}
	id.NotBefore, id.Expires = now, now.Add(time.Hour)
	proved := intercept.Proved{By: intercept.ProofPidfd}
	if id.Workload == "" || strings.Contains(id.Workload, "=") {
		return nil, fmt.Errorf("--as %q: write %s", as, asForm)
	}
	var actor, principal string
	for _, p := range parts[1:] {
		k, v, ok := strings.Cut(p, "=")
		claim, isClaim := strings.CutPrefix(k, "claim.")
		switch {
		case !ok || v == "" || isClaim && claim == "":
			return nil, fmt.Errorf("--as: %q: write NAME=VALUE", p)
		case isClaim:
			addClaim(id.Claims, claim, v)
		case k == "subject":
			id.Subject = v
		case k == "actor":
			actor = v
		case k == "principal":
			principal = v
		case k == "issuer":
			id.Issuer = v
		case k == "spiffe":
			id.SPIFFE = v
		case k == "proof":
			if intercept.Strength(v) == 0 {
				return nil, fmt.Errorf("--as: %q: a proof is one of %s", p, strings.Join(intercept.Strengths(), ", "))
			}
			proved.By = v
		case k == "bound":
			if !slices.Contains(intercept.Bindings(), v) {
				return nil, fmt.Errorf("--as: %q: a binding is one of %s", p, strings.Join(intercept.Bindings(), ", "))
			}
			proved.Bound = append(proved.Bound, v)
		case k == "speaks_for":
			if id.SpeaksFor = v == "true"; !id.SpeaksFor {
				return nil, fmt.Errorf("--as: %q: write speaks_for=true, or leave it out", p)
			}
		case k == "exe":
			s.Peer.Exe = v
		case k == "cgroup":
			s.Peer.Cgroup = v
		case k == "uid":
			n, err := strconv.ParseUint(v, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("--as: %q: a uid is a number", p)
			}
			s.Peer.UID = uint32(n)
		default:
			return nil, fmt.Errorf("--as: unknown %q: write %s", k, asForm)
		}
	}
	// A token with an actor chain has the principal for its subject.
	if principal != "" {
		if actor == "" {
			actor = id.Subject
		}
		if actor == "" {
			return nil, fmt.Errorf("--as: a principal needs somebody who acts for it: add subject=S")
		}
		id.Subject = principal
	}
	if actor != "" {
		id.Actors = []string{actor}
	}
	if len(proved.Bound) == 0 {
		proved.Bound = []string{intercept.BoundSubjects, intercept.BoundAudience, intercept.BoundPidfd}
	}
	id.Proofs.Workload, id.Proofs.Actor = proved, proved
	if id.Principal() != "" {
		id.Proofs.Principal = proved
	}
	id.Proof = proved.By
	return s, nil
}

func addClaim(claims map[string]any, name, text string) {
	var v any = text
	if b, err := strconv.ParseBool(text); err == nil && (text == "true" || text == "false") {
		v = b
	} else if f, err := strconv.ParseFloat(text, 64); err == nil {
		v = f
	}
	switch have := claims[name].(type) {
	case nil:
		claims[name] = v
	case []any:
		claims[name] = append(have, v)
	default:
		claims[name] = []any{have, v}
	}
}
