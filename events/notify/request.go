package notify

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"

	"sallyport.dev/sallyport/events/internal/outbound"
	"sallyport.dev/sallyport/events/jetstream"
	"sallyport.dev/sallyport/events/sink"
)

// Request is one that waits, as its host's events tell of it. All text is of one
// line, without anything that is not shown.
type Request struct {
	Host      string    `json:"host"`
	ID        string    `json:"id"`
	Rule      string    `json:"rule"`
	Resource  string    `json:"resource"`
	Database  string    `json:"database,omitempty"`
	Covers    string    `json:"covers"` // "statement", "shape" or "rule"
	Workload  string    `json:"workload"`
	Actor     string    `json:"actor,omitempty"`
	Principal string    `json:"principal,omitempty"`
	Asked     time.Time `json:"asked"`
	Until     time.Time `json:"until"`
	Lacks     int       `json:"lacks,omitempty"` // approvals that are wanted
}

// End is how the wait of a request ended.
type End struct {
	Step string    `json:"step"` // "approved", "denied", "expired", "withdrawn" or "revoked"
	By   string    `json:"by,omitempty"`
	At   time.Time `json:"at"`
}

// step is what one event tells. Request is whole in each.
type step struct {
	Request
	end   *End       // nil: it waits
	glass *glassStep // it is of emergency access
	asks  bool       // it is new
}

// mostWait is the longest that a request waits: policy allows no more.
const mostWait = 7 * 24 * time.Hour

// validID is of what Book makes: it becomes part of an address.
var validID = regexp.MustCompile(`^[a-z]{1,8}-[a-z0-9]{8,40}$`)

// ends are the steps after which nobody has to decide any more.
var ends = map[string]bool{"denied": true, "expired": true, "withdrawn": true, "revoked": true}

// read returns what an event tells of a request, nil where that is of no account.
func read(e *sink.Event) (s *step, err error) {
	a := e.View.Approval
	if a == nil {
		return nil, errors.New("it is of no request")
	}
	if !jetstream.ValidHost.MatchString(e.Host) || !validID.MatchString(a.ID) {
		return nil, errors.New("its host, or its request, has a name that none has")
	}
	s = &step{Request: Request{
		Host: e.Host, ID: a.ID, Rule: inert(a.Rule), Resource: inert(a.Resource), Database: inert(a.Database), Covers: inert(a.Covers),
		Workload: inert(a.Workload), Actor: inert(a.Actor), Principal: inert(a.Principal),
		Asked: e.View.Time.UTC(), Until: a.Until.UTC(), Lacks: min(max(a.Lacks, 0), 100),
	}}
	if a.Covers == coversGlass {
		s.glass, err = readGlass(s.Request, a)
		if s.glass == nil {
			return nil, err
		}
		return s, nil
	}
	switch {
	case a.Step == "requested":
		s.asks = true
		if s.Until.Sub(s.Asked) > mostWait {
			return nil, errors.New("it says that it waits longer than any request does")
		}
	case a.Step == "approved" && a.Lacks > 0:
		return nil, nil
	case a.Step == "approved", ends[a.Step]:
		s.end = &End{Step: a.Step, By: inert(a.Approver), At: s.Asked}
	default:
		return nil, nil
	}
	return s, nil
}

// mostText is of one text of a Request, in bytes.
const mostText = 200

// inert is one line of what somebody else wrote, without what is not shown.
func inert(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Co, r) || unicode.Is(unicode.Variation_Selector, r) {
			return ' '
		}
		return r
	}, outbound.Clean(s, mostText))
	return strings.TrimSpace(s)
}

// link is where an approver logs in, looks and decides.
func link(page, host, id string) string {
	return page + "/approvals/" + url.PathEscape(host) + "/" + url.PathEscape(id)
}
