// Package broker says whom the passage logs in as at a server: which account a
// proved identity is given, and where the account's secret comes from. The
// client of the passage never has it.
//
// Secrets are bytes, handed out as copies that their taker wipes. Nothing here
// puts one into an error.
package broker
