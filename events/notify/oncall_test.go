package notify

import (
	"strings"
	"testing"
	"time"
)

func TestRota(t *testing.T) {
	r := Rota{From: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC), Turn: 24 * time.Hour, People: []string{"a", "b", "c"}}
	for day, want := range map[float64]string{0: "a", 0.99: "a", 1: "b", 2.5: "c", 3: "a", 300: "a", 301: "b", -0.01: "c", -1: "c", -1.01: "b", -3: "a"} {
		if got := r.at(r.From.Add(time.Duration(day * 24 * float64(time.Hour)))); got != want {
			t.Errorf("day %v: %s, want %s", day, got, want)
		}
	}
}

func TestGlob(t *testing.T) {
	for pattern, texts := range map[string]string{
		"*": " x", "a": "a", "a*": "a ab", "*b": "b ab", "a*b*c": "abc axbyc aabbcc", "**": " x", "a*a": "aa aba",
	} {
		for s := range strings.SplitSeq(texts, " ") {
			if !glob(pattern, s) {
				t.Errorf("%q is not for %q", pattern, s)
			}
		}
	}
	for pattern, s := range map[string]string{"a": "ab", "a*": "ba", "*b": "ba", "a*a": "a", "a*b*b": "ab", "": "x"} {
		if glob(pattern, s) {
			t.Errorf("%q is for %q", pattern, s)
		}
	}
}

// Escaped text is never longer than Slack takes, and never cut within what stands for
// one character.
func TestSlackTextIsBounded(t *testing.T) {
	for _, s := range []string{strings.Repeat("&", 4000), strings.Repeat("é<", 4000), "short", ""} {
		for _, n := range []int{75, 150, 3000} {
			got := slackText(s, n)
			if k := len([]rune(got)); k > n {
				t.Errorf("%d characters, %d are taken", k, n)
			}
			if plain := strings.NewReplacer("&amp;", "", "&lt;", "", "&gt;", "").Replace(got); strings.ContainsAny(plain, "&<>") {
				t.Errorf("%q", plain)
			}
		}
	}
}
