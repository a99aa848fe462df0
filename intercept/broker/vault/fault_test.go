package vault_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport.dev/sallyport/intercept/broker"
	"sallyport.dev/sallyport/intercept/broker/vault"
)

// What a real server can't be made to answer: each is an error that says what is
// wrong, and nothing of a secret.
func TestAnswersThatAreNone(t *testing.T) {
	const planted = "PLANTED-SECRET"
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"refused":     {say(400, `{"errors":["no such role"]}`), "HTTP 400: no such role"},
		"long words":  {say(500, `{"errors":["`+strings.Repeat("x", 1000)+`"]}`), "..."},
		"sealed":      {say(503, `{"errors":["Vault is sealed"]}`), "HTTP 503"},
		"no JSON":     {say(200, `{"data":{"username":"u","password":"`+planted+`"`), "not understood"},
		"other types": {say(200, `{"data":{"username":{"a":"`+planted+`"},"password":7}}`), "not understood"},
		"no user":     {say(200, `{"data":{"password":"`+planted+`"}}`), "no account"},
		"no password": {say(200, `{"data":{"username":"u"}}`), "no account"},
		"nothing":     {say(204, ""), "not understood"},
		"too much":    {say(200, `{"data":{"password":"`+planted+strings.Repeat("x", 2<<20)+`"}}`), "more than"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/v1/other", http.StatusTemporaryRedirect)
		}, "HTTP 307"},
		"hangs up":      {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"does not talk": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1); r.URL.Path == "/v1/other" {
					t.Error("the token was carried elsewhere")
				}
				c.answer(w, r)
			}))
			defer s.Close()
			store := &broker.Store{}
			store.Replace(map[string][]byte{"token": []byte("s.token")})
			src := &vault.Source{Client: &vault.Client{Address: s.URL, Store: store, TokenFile: "token"}, Path: "database/creds/x"}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := src.Credential(ctx, "", 0)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), planted) || strings.Contains(err.Error(), "s.token") || len(err.Error()) > 500 {
				t.Errorf("%v", err)
			}
			if asked.Load() == 0 {
				t.Error("nothing was asked")
			}
		})
	}
}

func say(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

// A token that is refused is read again, once, and a new one is used.
func TestTokenIsReadAgain(t *testing.T) {
	good := "s.new"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Token") != good {
			say(403, `{"errors":["permission denied"]}`)(w, r)
			return
		}
		say(200, `{"data":{"username":"u","password":"a\"b","ttl":60}}`)(w, r)
	}))
	defer s.Close()
	store, reads := &broker.Store{}, 0
	store.Replace(map[string][]byte{"token": []byte("s.old")})
	store.Refresh = func(context.Context) error {
		reads++
		store.Replace(map[string][]byte{"token": []byte("s.new\n")})
		return nil
	}
	src := &vault.Source{Client: &vault.Client{Address: s.URL, Store: store, TokenFile: "token"}, Path: "database/static-creds/x"}
	c, err := src.Credential(t.Context(), "", 0)
	if err != nil || string(c.Password) != `a"b` || reads != 1 {
		t.Fatalf("%v, %d reads", err, reads)
	}
	good = "s.never"
	if _, err := src.Credential(t.Context(), "", c.Version); err == nil || errors.Is(err, broker.ErrUnchanged) || !strings.Contains(err.Error(), "403") {
		t.Errorf("%v", err)
	}
}
