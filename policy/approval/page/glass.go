package page

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"time"

	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/approval"
	"sallyport.dev/sallyport/policy/approval/desk"
)

var glassID = regexp.MustCompile(`^bg-[a-z2-7]{20}$`)

var errNoGlass = errors.New("there is no such emergency access, or none that you may open or review")

// glass is emergency access, as somebody is shown it who may open or review it.
type glass struct {
	Host, Path, Digest string
	approval.Glass
	Overdue bool // nobody has reviewed it in time

	Verbs    []string // what that person may do now, as far as it is not theirs
	Verb     string
	Why      string
	LeastWhy int
	MostWhy  int
	Wrong    string // with what was sent
}

// mayMend are those who may open one, and those who may review it.
func mayMend(g *approval.Glass, provided []policy.BreakGlass) (open, review []policy.Approver) {
	open, review = g.Entry.By, slices.Clone(g.Entry.Review)
	for _, of := range provided {
		if of.Name == g.Name {
			review = append(review, of.Review...)
		}
	}
	return open, review
}

// noGlass reports that what a host answers is none: somebody has opened each.
func noGlass(g approval.Glass) bool { return !glassID.MatchString(g.ID) || len(g.Decisions) == 0 }

// glassFor is what a person is shown of one, nil where it is none of theirs.
func glassFor(host string, g *approval.Glass, provided []policy.BreakGlass, by *approval.Proof, now time.Time) (*glass, error) {
	open, review := mayMend(g, provided)
	opens, reviews := approval.May(open, by), approval.May(review, by)
	if !opens && !reviews {
		return nil, nil
	}
	b, err := json.Marshal(&g.Opening)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b)
	v := &glass{
		Host: host, Path: "/break-glass/" + host + "/" + g.ID, Digest: hex.EncodeToString(sum[:]), Glass: *g,
		LeastWhy: approval.LeastWhy, MostWhy: approval.MostWhy,
		Overdue: g.State != approval.GlassReviewed && !now.Before(g.ReviewBy),
	}
	switch {
	case g.State == approval.GlassOpen:
		v.Verbs = []string{approval.CloseGlass}
	case g.State != approval.GlassReviewed && reviews:
		v.Verbs = []string{approval.Justified, approval.Unjustified}
	}
	return v, nil
}

// listGlass shows what is open, and what awaits a review, to those who may open or
// review it.
func (p *Page) listGlass(w http.ResponseWriter, r *http.Request) {
	s := p.sessions.of(r)
	if s == nil {
		p.needLogin(w, r)
		return
	}
	all := r.URL.Query().Get("all") == "1"
	var rows []*glass
	away := p.askAll(r.Context(), &desk.Ask{Do: desk.GlassList, All: all}, func(host string, a *desk.Answer) error {
		if slices.ContainsFunc(a.Glasses, noGlass) {
			return errNoAnswer(host)
		}
		for i := range a.Glasses {
			g, err := glassFor(host, &a.Glasses[i], a.Provided, &s.proof, p.now())
			if err != nil {
				return err
			}
			if g != nil {
				rows = append(rows, g)
			}
		}
		return nil
	})
	slices.SortFunc(rows, func(a, b *glass) int { return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID)) })
	n := len(rows)
	rows = fair(rows, func(g *glass) (host, workload string) { return g.Host, g.Workload })
	p.render(w, r, "glasses.html", view{Title: "Emergency access", Body: map[string]any{"Rows": rows, "More": n - len(rows), "Away": away, "All": all}})
}

// glass returns one, and what its host answered.
func (p *Page) glass(ctx context.Context, s *session, host, id string) (*glass, *desk.Answer, int, error) {
	if !slices.Contains(p.set.Hosts, host) || !glassID.MatchString(id) {
		return nil, nil, http.StatusNotFound, errNoGlass
	}
	a, err := p.hosts.Ask(ctx, host, &desk.Ask{Do: desk.GlassList, All: true})
	if err != nil {
		status, err := ofHost(err)
		return nil, nil, status, err
	}
	i := slices.IndexFunc(a.Glasses, func(g approval.Glass) bool { return g.ID == id })
	if i < 0 {
		return nil, nil, http.StatusNotFound, errNoGlass
	}
	g, err := glassFor(host, &a.Glasses[i], a.Provided, &s.proof, p.now())
	if err != nil {
		return nil, nil, http.StatusInternalServerError, err
	}
	if g == nil {
		return nil, nil, http.StatusNotFound, errNoGlass
	}
	return g, a, 0, nil
}

func (p *Page) showGlass(w http.ResponseWriter, r *http.Request) {
	s := p.sessions.of(r)
	if s == nil {
		p.needLogin(w, r)
		return
	}
	g, _, status, err := p.glass(r.Context(), s, r.PathValue("host"), r.PathValue("id"))
	if err != nil {
		p.fail(w, r, status, err)
		return
	}
	p.render(w, r, "glass.html", view{Title: "Emergency access " + g.ID, Body: g})
}

// mendGlass takes what a person does with it, and has them sign that, as a decision.
func (p *Page) mendGlass(w http.ResponseWriter, r *http.Request) {
	s := p.filledIn(w, r)
	if s == nil {
		return
	}
	g, a, status, err := p.glass(r.Context(), s, r.PathValue("host"), r.PathValue("id"))
	if err != nil {
		p.fail(w, r, status, err)
		return
	}
	// What is signed is what was shown.
	if !same(r.PostFormValue("digest"), g.Digest) {
		p.fail(w, r, http.StatusConflict, errors.New("it is not what was shown: open it again"))
		return
	}
	g.Verb, g.Why = r.PostFormValue("verb"), r.PostFormValue("why")
	if !slices.Contains(g.Verbs, g.Verb) {
		g.Wrong = "it is " + g.State + ": choose one of what you may do with it now"
	} else if err := approval.CheckWhy(g.Why); err != nil {
		g.Wrong = err.Error()
	}
	if g.Wrong != "" {
		p.render(w, r, "glass.html", view{Title: "Emergency access " + g.ID, Status: http.StatusUnprocessableEntity, Body: g})
		return
	}
	nonce, err := approval.GlassNonce(&g.Opening, g.Verb, g.Why)
	if err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	p.toSign(w, r, s, a, g.Path, &pending{Host: g.Host, ID: g.ID, Verb: g.Verb, Why: g.Why, Nonce: nonce})
}

// doing is a verb in words, and of what.
func doing(id, verb string) (does, of string) {
	switch {
	case !glassID.MatchString(id):
		return verb, "request"
	case verb == approval.Justified || verb == approval.Unjustified:
		return "find " + verb, "emergency access"
	}
	return verb, "emergency access"
}
