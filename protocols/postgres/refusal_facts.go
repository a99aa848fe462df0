package postgres

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
	codeUnavailable: kindUnavailable, codeInternal: kindAnswer,
}

// facts are a refusal for programs: the DETAIL of its error, one line of JSON.
type facts struct {
	Refused   string   `json:"refused,omitempty"`
	Rules     []string `json:"rules,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
	Session   string   `json:"session,omitempty"`
	Statement uint64   `json:"statement,omitempty"` // from 1, as in the record
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
	return f
}
