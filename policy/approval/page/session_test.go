package page

import (
	"net/http/httptest"
	"testing"
	"time"
)

// A copy of a log-in's cookie takes it no second time.
func TestALoginIsTakenOnce(t *testing.T) {
	s, err := newSessions(time.Now, "/", false)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := s.keepLogin(w, &login{State: "a", Ends: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r := httptest.NewRequest("GET", "/callback", nil)
		r.AddCookie(w.Result().Cookies()[0])
		if l := s.takeLogin(httptest.NewRecorder(), r, "a"); (l != nil) != (i == 0) {
			t.Errorf("time %d: %v", i+1, l)
		}
	}
}
