package transport

import (
	"strings"
	"testing"

	"github.com/kisgrid/kisgrid/pkg/batch"
)

// TestAddressesThatCannotBe: who makes a mistake hears of it at once, and where it is.
func TestAddressesThatCannotBe(t *testing.T) {
	for target, why := range map[string]string{
		"":                             "no address",
		" , ":                          "no address",
		"host:99999":                   "port 99999",
		"host:65536":                   "port 65536",
		"host:0":                       "port 0",
		"host:-1":                      "port -1",
		"host:99999999999999999999999": "99999999999999999999999",
		"host:":                        "port after the colon is missing",
		"host:no-such-service":         "no-such-service",
		"[::1":                         "bracket",
		"::1]":                         "bracket",
		"[::1]7700":                    "bracket",
		"[host]:7700":                  "IPv6",
		"[127.0.0.1]:7700":             "IPv6",
		"a:b:c":                        "IPv6",
		"1:2:7700":                     "IPv6",
		"ho st:7700":                   "character",
		"host\xff:7700":                "character",
		"host/path":                    "character",
		"a:7700,b:99999":               `"b:99999"`,
		"a:7700,[::1":                  `"[::1"`,
		"dns:///host:99999":            "port 99999",
		"dns:///[::1":                  "bracket",
		"dns:///":                      "empty",
		"dns://10.0.0.1:99999/host":    "port 99999",
	} {
		_, _, err := Resolve(target)
		if batch.CodeOf(err) == batch.CodeInternal || err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q gives %v, want an error with %q", target, err, why)
		}
	}
	for _, target := range []string{
		"host", "host:7700", ":7700", "::1", "[::1]", "[::1]:7700", "[fe80::1%eth0]:7700", "10.0.0.1", "host:http", "a, b:1 ,[::1]:65535",
		"dns:///host", "dns:///host:1", "dns://10.0.0.1/host:1", "passthrough:///whatever", "unix:///run/kisgrid.sock",
	} {
		if _, _, err := Resolve(target); err != nil {
			t.Errorf("%q: %v", target, err)
		}
	}
}
