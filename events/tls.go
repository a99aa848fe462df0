package events

// TLS is what one door of a session was secured with; zero: it was in clear.
type TLS struct {
	Version  string `json:"version"`            // "1.2", "1.3"
	Cipher   string `json:"cipher,omitempty"`   // IANA's name of the suite
	Name     string `json:"sni,omitempty"`      // that was asked for; "" for an address
	Verified bool   `json:"verified,omitempty"` // the server has proved who it is
}
