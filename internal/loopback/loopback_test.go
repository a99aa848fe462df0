package loopback_test

import (
	"testing"

	"sallyport.dev/sallyport/internal/loopback"
)

func TestHost(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "localhost.example.org": false,
		"127.0.0.1.example.org": false, "127.1": false, "0177.0.0.1": false, "localhost:80": false, "[::1]": false,
	} {
		if got := loopback.Host(host); got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}
