package postgres

import (
	"time"

	"sallyport.dev/sallyport/policy"
)

// Kinds of refusals, which docs/refusals.md describes. A program may rely on
// them: they change less than the words.
const (
	kindRule          = "rule"
	kindDefault       = "default"
	kindConflict      = "conflict"
	kindChanged       = "changed"
	kindNotUnderstood = "not-understood"
	kindIdentity      = "identity"
	kindUnrecorded    = "unrecorded"
	kindUnavailable   = "unavailable"
	kindLimit         = "limit"
	kindProtocol      = "protocol"
	kindClosing       = "closing"
	kindAnswer        = "answer"
	kindApproval      = "approval"
)

// kindsOfRules are the kinds of what the policy's language decides by itself;
// all other names are rules.
var kindsOfRules = map[string]string{
	"default": kindDefault, "conflict": kindConflict, "changed": kindChanged,
	"identity": kindIdentity, "opaque": kindNotUnderstood,
}

// kindsOfCodes are the kinds where no rule decided.
var kindsOfCodes = map[string]string{
	codePrivilege: kindRule, codeUnsupported: kindNotUnderstood, codeIdentity: kindIdentity, codePassword: kindIdentity,
	codeUnrecorded: kindUnrecorded, codeBusy: kindLimit, codeProtocol: kindProtocol, codeShutdown: kindClosing,
	codeUnavailable: kindUnavailable, codeInternal: kindAnswer, codeAwaits: kindApproval, codeDenied: kindApproval, codeCancelled: kindApproval,
}

// facts are a refusal for programs: the DETAIL of its error, one line of JSON.
type facts struct {
	Refused   string   `json:"refused,omitempty"`
	Rules     []string `json:"rules,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
	Session   string   `json:"session,omitempty"`
	Statement uint64   `json:"statement,omitempty"` // from 1, as in the record

	Approval string `json:"approval,omitempty"` // ID of the request
	State    string `json:"state,omitempty"`    // of it: "pending", "denied" or "withdrawn"
	Until    string `json:"until,omitempty"`    // RFC 3339: pending or denied so long
	Wait     string `json:"wait,omitempty"`     // how to wait for it
}

// detail returns the facts, "" for an error that is the server's own.
func (r *refusal) detail() string {
	if r.native {
		return ""
	}
	return oneLine(r.facts())
}

func (r *refusal) facts() *facts {
	f := &facts{Refused: kindsOfCodes[r.code], Remedy: r.hint, Session: r.session, Statement: r.number}
	if len(r.rules) > 0 {
		k := kindsOfRules[r.rules[0]]
		if k == "" {
			f.Rules = r.rules
			if k = kindRule; r.code == codeBusy {
				k = kindLimit
			}
		}
		f.Refused = k
	}
	if a := r.approval; a != nil {
		f.Refused, f.Approval, f.State, f.Until = kindApproval, a.ID, a.State.String(), a.Until.UTC().Format(time.RFC3339)
		switch {
		case r.code == codeCancelled:
			f.State, f.Until = policy.Withdrawn.String(), ""
		case a.State == policy.Awaited:
			f.Wait = "sallyport approvals wait " + a.ID
		}
	}
	return f
}
