package recorder

import (
	"net/netip"
	"time"

	"sallyport.dev/sallyport/events"
)

// Facts are what the index and the reader take from an event.
type Facts struct {
	Time          time.Time `json:"time"`
	Kind          string    `json:"kind"`
	Number        uint64    `json:"number,omitempty"`
	Command       string    `json:"command,omitempty"`
	Text          string    `json:"normalized,omitempty"` // without literals
	Verdict       string    `json:"verdict,omitempty"`
	Rules         []string  `json:"rules,omitempty"`
	Reason        string    `json:"reason,omitempty"`
	Remedy        string    `json:"remedy,omitempty"`
	Code          string    `json:"code,omitempty"`
	Objects       []string  `json:"objects,omitempty"` // schema.relation
	Masked        []string  `json:"masked,omitempty"`
	Masks         []string  `json:"masks,omitempty"` // of Masked, in its order
	Revealed      []string  `json:"revealed,omitempty"`
	Why           string    `json:"justification,omitempty"` // of what is revealed
	Would         string    `json:"would,omitempty"`         // what rules that only observe would have done
	WouldRules    []string  `json:"would_rules,omitempty"`
	WouldReason   string    `json:"would_reason,omitempty"`
	WouldMasked   []string  `json:"would_masked,omitempty"`
	WouldFiltered []string  `json:"would_filtered,omitempty"`

	Detected []string      `json:"detected,omitempty"`         // "ssn x3 in clinic.notes.body"
	Subjects []string      `json:"subjects,omitempty"`         // whose rows went out: "patient:" and a keyed hash
	Named    int64         `json:"subjects_named,omitempty"`   // of all events of the statement
	Untold   string        `json:"subjects_unknown,omitempty"` // why not all are known
	Status   string        `json:"status,omitempty"`
	Rows     int64         `json:"rows,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"`
	Recorded int64         `json:"-"`                  // bytes of the result that the transcript has
	Duration time.Duration `json:"duration,omitempty"` // ns
	Message  string        `json:"message,omitempty"`

	Who Identity `json:"-"`
}

// Identity is who held a session, where, as the events tell.
type Identity struct {
	Protocol    string   `json:"protocol"`
	Resource    string   `json:"resource"`
	Destination string   `json:"destination"`
	Workload    string   `json:"workload"`
	SPIFFE      string   `json:"spiffe,omitempty"`
	Actor       string   `json:"actor"`
	Principal   string   `json:"principal,omitempty"`
	Actors      []string `json:"actors,omitempty"`
	Issuer      string   `json:"issuer,omitempty"`
	Proof       string   `json:"proof,omitempty"` // the weakest of the next three

	WorkloadProof  events.Proved `json:"workload_proof,omitzero"`
	ActorProof     events.Proved `json:"actor_proof,omitzero"`
	PrincipalProof events.Proved `json:"principal_proof,omitzero"`

	Process     string `json:"process,omitempty"` // path of the executable
	PID         uint32 `json:"pid,omitempty"`
	Account     string `json:"account,omitempty"` // database user that the passage logged in as
	Role        string `json:"role,omitempty"`    // that its session runs as
	User        string `json:"user,omitempty"`    // claimed, as are the next two
	Database    string `json:"database,omitempty"`
	Application string `json:"application,omitempty"`

	ClientTLS   events.TLS `json:"client_tls,omitzero"`
	ClientClear bool       `json:"client_clear,omitempty"` // though TLS was offered
	ServerTLS   events.TLS `json:"server_tls,omitzero"`

	ServerFrom netip.AddrPort `json:"server_from,omitzero"` // the passage's address at the server

	ClientCertificate events.Certificate `json:"client_certificate,omitzero"` // that was shown; proves nothing
	Undecoded         bool               `json:"undecoded,omitempty"`         // its TLS is with the server itself
}
