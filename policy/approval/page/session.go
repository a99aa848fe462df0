package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"sync"
	"time"

	"sallyport.dev/sallyport/policy/approval"
)

const (
	sessionTime = 30 * time.Minute
	loginTime   = 10 * time.Minute // for a log-in, of either kind
	maxSessions = 10_000
	maxPending  = 8 // decisions of a session that wait for their signature
)

// session is of one person who has logged in, in one browser.
type session struct {
	id, csrf string
	issuer   *Issuer
	saml     string         // the provider's name, of who has logged in by SAML
	proof    approval.Proof // of the log-in: what it may see is told by it; it decides nothing
	ends     time.Time

	mu      sync.Mutex
	pending []*pending // oldest first
}

// pending is a decision that waits for its signature.
type pending struct {
	State, PKCE, TokenURL string
	Host, ID, Verb, Why   string
	Nonce                 string
	Salt                  []byte // of who signs by SAML
	Ends                  time.Time
}

// login is a log-in under way. It stands, sealed, in the browser's own cookie: nobody
// who only comes by fills a memory.
type login struct {
	State, Nonce, PKCE, TokenURL string
	Issuer                       int
	SAML                         string // the provider's name instead; Nonce is the request's ID
	To                           string
	Ends                         time.Time
}

// sessions are those of a page.
type sessions struct {
	now    func() time.Time
	path   string
	secure bool
	seal   cipher.AEAD

	mu   sync.Mutex
	all  map[string]*session
	used map[string]time.Time // states of log-ins that were taken, until they end
}

func newSessions(now func() time.Time, path string, secure bool) (*sessions, error) {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	seal, err := cipher.NewGCMWithRandomNonce(block)
	return &sessions{now: now, path: path, secure: secure, seal: seal, all: map[string]*session{}, used: map[string]time.Time{}}, err
}

// Names of cookies: the browser takes one with __Host- from this very host only.
const (
	cookieSession = "sallyport-approvals"
	cookieLogin   = "sallyport-login"
)

func (s *sessions) cookieName(name string) string {
	switch {
	case s.secure && s.path == "/":
		return "__Host-" + name
	case s.secure:
		return "__Secure-" + name
	}
	return name
}

// put sets a cookie; without a value it takes it away. It is sent along when the
// issuer sends the browser back, and with no form of another site.
func (s *sessions) put(w http.ResponseWriter, name, value string, life time.Duration) {
	c := &http.Cookie{
		Name: s.cookieName(name), Value: value, Path: s.path, MaxAge: int(life.Seconds()),
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode,
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// of returns the session that a request is of, nil where it is of none.
func (s *sessions) of(r *http.Request) *session {
	c, err := r.Cookie(s.cookieName(cookieSession))
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one := s.all[c.Value]
	if one != nil && !s.now().Before(one.ends) {
		delete(s.all, one.id)
		return nil
	}
	return one
}

// begin begins one in a browser, of which none before goes on.
func (s *sessions) begin(w http.ResponseWriter, r *http.Request, is *Issuer, p *approval.Proof) bool {
	s.end(w, r)
	one := &session{id: rand.Text(), csrf: rand.Text(), issuer: is, saml: p.SAML, proof: *p, ends: s.now().Add(sessionTime)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) >= maxSessions {
		for id, old := range s.all {
			if !s.now().Before(old.ends) {
				delete(s.all, id)
			}
		}
	}
	if len(s.all) >= maxSessions {
		return false
	}
	s.all[one.id] = one
	s.put(w, cookieSession, one.id, sessionTime)
	return true
}

func (s *sessions) end(w http.ResponseWriter, r *http.Request) {
	if c, err := r.Cookie(s.cookieName(cookieSession)); err == nil {
		s.mu.Lock()
		delete(s.all, c.Value)
		s.mu.Unlock()
		s.put(w, cookieSession, "", 0)
	}
}

// keepLogin keeps a log-in in the browser that begins it.
func (s *sessions) keepLogin(w http.ResponseWriter, l *login) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	s.put(w, cookieLogin, base64.RawURLEncoding.EncodeToString(s.seal.Seal(nil, nil, b, []byte(cookieLogin))), loginTime)
	return nil
}

// takeLogin takes a browser's log-in that has a state, nil where there is none.
func (s *sessions) takeLogin(w http.ResponseWriter, r *http.Request, state string) *login {
	c, err := r.Cookie(s.cookieName(cookieLogin))
	if err != nil {
		return nil
	}
	b, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return nil
	}
	l := &login{}
	if b, err = s.seal.Open(nil, nil, b, []byte(cookieLogin)); err != nil || json.Unmarshal(b, l) != nil || !same(l.State, state) {
		return nil
	}
	s.put(w, cookieLogin, "", 0)
	if !s.now().Before(l.Ends) || !s.once(l) {
		return nil
	}
	return l
}

// once reports whether a log-in is taken for the first time: who has a copy of its
// cookie takes it no second time. Of too many some are forgotten: anybody can begin
// log-ins, and must keep nobody out.
func (s *sessions) once(l *login) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.used) >= maxSessions {
		now := s.now()
		maps.DeleteFunc(s.used, func(_ string, ends time.Time) bool { return !now.Before(ends) })
	}
	if _, is := s.used[l.State]; is {
		return false
	}
	for state := range s.used {
		if len(s.used) < maxSessions {
			break
		}
		delete(s.used, state)
	}
	s.used[l.State] = l.Ends
	return true
}

// keep keeps a decision until it is signed; of too many the oldest is forgotten.
func (s *session) keep(p *pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) >= maxPending {
		s.pending = s.pending[1:]
	}
	s.pending = append(s.pending, p)
}

// take takes the decision that has a state, once.
func (s *session) take(state string, now time.Time) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.pending {
		if same(p.State, state) {
			s.pending = append(s.pending[:i:i], s.pending[i+1:]...)
			if now.Before(p.Ends) {
				return p
			}
			break
		}
	}
	return nil
}

func same(a, b string) bool {
	return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
