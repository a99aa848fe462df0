package page

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

var ownPath = regexp.MustCompile(`^/(approvals(/[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}/ap-[a-z2-7]{20})?|break-glass(/[a-zA-Z0-9][a-zA-Z0-9_-]{0,62}/bg-[a-z2-7]{20})?)$`)

// maxListed is how many requests are listed at once.
const maxListed = 500

// row is a request in the list.
type row struct {
	Host string
	approval.Entry
}

// list shows what the person who has logged in may decide.
func (p *Page) list(w http.ResponseWriter, r *http.Request) {
	s := p.sessions.of(r)
	if s == nil {
		p.needLogin(w, r)
		return
	}
	all := r.URL.Query().Get("all") == "1"
	var rows []row
	away := p.askAll(r.Context(), &desk.Ask{Do: desk.List, All: all}, func(host string, a *desk.Answer) error {
		if slices.ContainsFunc(a.Entries, func(e approval.Entry) bool { return !requestID.MatchString(e.ID) }) {
			return errNoAnswer(host)
		}
		for _, e := range a.Entries {
			if approval.May(e.By, &s.proof) {
				rows = append(rows, row{host, e})
			}
		}
		return nil
	})
	slices.SortFunc(rows, func(a, b row) int { return cmp.Or(a.Asked.Compare(b.Asked), cmp.Compare(a.ID, b.ID)) })
	n := len(rows)
	rows = fair(rows, func(r row) (host, workload string) { return r.Host, r.Who.Workload })
	p.render(w, r, "list.html", view{Title: "Requests for approval", Body: map[string]any{"Rows": rows, "More": n - len(rows), "Away": away, "All": all}})
}

func errNoAnswer(host string) error {
	return fmt.Errorf("host %s: its answer is not understood: it is of another version, or not what it should be", host)
}

// fair has of more than are listed, oldest first, a share for each host, and in it one
// for each workload: what one of them asks for hides nobody else's.
func fair[T any](all []T, of func(T) (host, workload string)) []T {
	if len(all) <= maxListed {
		return all
	}
	order := make([]int, len(all))
	for i := range order {
		order[i] = i
	}
	inTurn := func(whose func(T) [2]string) {
		n, turn := map[[2]string]int{}, make([]int, len(all))
		for _, i := range order {
			k := whose(all[i])
			turn[i] = n[k]
			n[k]++
		}
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(turn[i], turn[j]) })
	}
	inTurn(func(x T) [2]string { host, workload := of(x); return [2]string{host, workload} })
	inTurn(func(x T) [2]string { host, _ := of(x); return [2]string{host} })
	order = order[:maxListed]
	slices.Sort(order)
	listed := make([]T, len(order))
	for i, at := range order {
		listed[i] = all[at]
	}
	return listed
}

// askAll asks all hosts at once, takes their answers one by one, and returns why some
// have none.
func (p *Page) askAll(ctx context.Context, q *desk.Ask, take func(host string, a *desk.Answer) error) (away []string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, host := range p.set.Hosts {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			a, err := p.hosts.Ask(ctx, host, q)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				err = take(host, a)
			}
			if err != nil {
				p.log.Warn("a host can't be asked", "host", host, "error", err)
				away = append(away, err.Error())
			}
		})
	}
	wg.Wait()
	slices.Sort(away)
	return away
}

var errNone = errors.New("there is no such request, or none that you may decide")

// entry returns a request that a person may decide, as they are to see it. That it was
// seen is on the record then. The answer tells which issuers the host knows.
func (p *Page) entry(ctx context.Context, s *session, host, id string) (*approval.Entry, *desk.Answer, int, error) {
	if !slices.Contains(p.set.Hosts, host) || !requestID.MatchString(id) {
		return nil, nil, http.StatusNotFound, errNone
	}
	for _, do := range []string{desk.List, desk.Show} { // nobody has "seen" what they may not see
		a, err := p.hosts.Ask(ctx, host, &desk.Ask{Do: do, ID: id, Viewer: &approval.Viewer{Issuer: s.proof.Issuer, Subject: s.proof.Subject}})
		var no *desk.Refused
		if errors.As(err, &no) && no.Text == approval.ErrUnknown.Error() {
			return nil, nil, http.StatusNotFound, errNone
		}
		if err != nil {
			status, err := ofHost(err)
			return nil, nil, status, err
		}
		if !approval.May(a.Entries[0].By, &s.proof) {
			return nil, nil, http.StatusNotFound, errNone
		}
		if do == desk.Show {
			return &a.Entries[0], a, 0, nil
		}
	}
	return nil, nil, http.StatusNotFound, errNone
}

// request is what the page of one is made of.
type request struct {
	Host, Path, Digest string
	*approval.Entry
	Signed   string // all that is signed, as JSON
	Verbs    []string
	Verb     string
	Why      string
	LeastWhy int
	MostWhy  int
	Wrong    string // with what was sent
}

func describe(host string, e *approval.Entry) (*request, error) {
	d, err := e.Digest()
	if err != nil {
		return nil, err
	}
	b, err := json.MarshalIndent(&e.Subject, "", "  ")
	if err != nil {
		return nil, err
	}
	q := &request{
		Host: host, Path: "/approvals/" + host + "/" + e.ID, Digest: hex.EncodeToString(d[:]), Entry: e, Signed: string(b),
		LeastWhy: approval.LeastWhy, MostWhy: approval.MostWhy,
	}
	switch e.State {
	case "pending":
		q.Verbs = []string{approval.Approve, approval.Deny}
		if len(e.Decisions) > 0 { // of two of whom one has approved
			q.Verbs = append(q.Verbs, approval.Revoke)
		}
	case "approved":
		q.Verbs = []string{approval.Revoke}
	}
	return q, nil
}

func (p *Page) show(w http.ResponseWriter, r *http.Request) {
	s := p.sessions.of(r)
	if s == nil {
		p.needLogin(w, r)
		return
	}
	host := r.PathValue("host")
	e, _, status, err := p.entry(r.Context(), s, host, r.PathValue("id"))
	if err != nil {
		p.fail(w, r, status, err)
		return
	}
	q, err := describe(host, e)
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	p.render(w, r, "request.html", view{Title: "Request " + e.ID, Body: q})
}
