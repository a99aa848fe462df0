package page_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/approvaltest"
	"sallyport.dev/sallyport/policy/approval/desk"
	"sallyport.dev/sallyport/policy/approval/page"
)

// over changes what hosts answer, as one does that was taken over.
type over struct {
	page.Hosts
	answer func(host string, q *desk.Ask, ask func() (*desk.Answer, error)) (*desk.Answer, error)
}

func (o *over) Ask(ctx context.Context, host string, q *desk.Ask) (*desk.Answer, error) {
	return o.answer(host, q, func() (*desk.Answer, error) { return o.Hosts.Ask(ctx, host, q) })
}

func numbered(kind string, n int) string {
	return kind + strings.NewReplacer("0", "a", "1", "b", "8", "c", "9", "d").Replace(fmt.Sprintf("%020d", n))
}

// However much one workload asks for, and however much one host says that is asked
// there, what waits for others is listed.
func TestFloodHidesNobodyElses(t *testing.T) {
	s := newSite(t)
	s.hosts = []string{"h2"}
	mine := s.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	flood := func(host string, like *approval.Entry, n int, workload string) (all []approval.Entry) {
		for i := range n {
			e := *like
			e.ID, e.Host, e.Asked = numbered("ap-", i), host, e.Asked.Add(-time.Hour)
			e.Who.Workload = strings.ReplaceAll(workload, "%", fmt.Sprint(i))
			all = append(all, e)
		}
		return all
	}
	for what, workload := range map[string]string{"workload": "flood", "host": "flood-%"} {
		s.over = func(h page.Hosts) page.Hosts {
			return &over{h, func(host string, q *desk.Ask, ask func() (*desk.Answer, error)) (*desk.Answer, error) {
				if host == "h2" {
					e := approval.Entry{State: "pending"}
					e.By = s.leads()
					return &desk.Answer{Entries: flood("h2", &e, 2000, "flood-%")}, nil
				}
				a, err := ask()
				if err == nil && workload == "flood" {
					a.Entries = append(flood("h1", &a.Entries[0], 2000, workload), a.Entries...)
				}
				return a, err
			}}
		}
		s.restart()
		a := s.browser("dr-lee", "leads").logIn("/approvals")
		a.want(t, http.StatusOK, mine, "more are not shown")
		if n := strings.Count(a.body, "<tr><td>"); n != 500 {
			t.Errorf("%s: %d are listed", what, n)
		}
	}
}

// A host that answers what is no request, or emergency access that nobody has opened,
// is away; what waits on others is listed.
func TestHostThatAnswersNonsense(t *testing.T) {
	s, o := newWardSite(t)
	s.hosts = []string{"h2"}
	mine := s.Ask(approvaltest.Statement{Text: "DELETE FROM visits"})
	for _, bad := range []func(*approval.Glass, *approval.Entry){
		func(g *approval.Glass, e *approval.Entry) { g.Decisions, e.ID = nil, "" },
		func(g *approval.Glass, e *approval.Entry) { g.ID, e.ID = "bg-../../logout", "ap-../../logout" },
	} {
		s.over = func(h page.Hosts) page.Hosts {
			return &over{h, func(host string, q *desk.Ask, ask func() (*desk.Answer, error)) (*desk.Answer, error) {
				if host == "h1" {
					return ask()
				}
				g, e := approval.Glass{State: approval.GlassOpen}, approval.Entry{State: "pending"}
				g.ID, e.ID = numbered("bg-", 1), numbered("ap-", 1)
				g.Entry.By, e.By = s.leads(), s.leads()
				g.Decisions = []approval.Decision{{}}
				bad(&g, &e)
				return &desk.Answer{Glasses: []approval.Glass{g}, Entries: []approval.Entry{e}}, nil
			}}
		}
		s.restart()
		b := s.browser("dr-lee", "leads on-call")
		for path, id := range map[string]string{"/approvals": mine, "/break-glass": o.ID} {
			a := b.get(path)
			if loginLink.MatchString(a.body) {
				a = b.logIn(path)
			}
			a.want(t, http.StatusOK, id, "host h2: its answer is not understood")
			if strings.Contains(a.body, "..") {
				t.Errorf("%s", a.body)
			}
		}
	}
}
