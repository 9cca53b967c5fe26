package definition

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccessNames(t *testing.T) {
	for _, test := range []struct {
		env     []string
		name    string
		allowed bool
	}{
		{nil, "REDIS_ADDR", true}, {nil, "KISGRID_ETCD_PASSWORD", false}, {nil, "KISGRID_", false}, {nil, "KISGRID", true}, {nil, "OTEL_EXPORTER_OTLP_HEADERS", false},
		{nil, "kisgrid_x", true}, {[]string{}, "REDIS_ADDR", false}, {[]string{"REDIS_ADDR"}, "REDIS_ADDR", true}, {[]string{"REDIS_ADDR"}, "REDIS_ADDRS", false},
		{[]string{"REDIS_*", "X"}, "REDIS_PASSWORD", true}, {[]string{"REDIS_*", "X"}, "X", true}, {[]string{"REDIS_*"}, "REDIS", false},
		{[]string{"*"}, "KISGRID_X", true}, {[]string{"KISGRID_X"}, "KISGRID_X", true},
	} {
		a := Access{Env: test.env}
		for _, put := range []func(*Connector, string){
			func(c *Connector, v string) { c.Addrs = []string{v} }, func(c *Connector, v string) { c.Key = v }, func(c *Connector, v string) { c.Params = map[string]string{"p": v} },
			func(c *Connector, v string) { c.Username = v }, func(c *Connector, v string) { c.PasswordFile = v },
		} {
			for _, value := range []string{"${" + test.name + "}", "a${X1:b}${" + test.name + ":c}"} {
				c := &Connector{Name: "C", Document: Document{Kind: KindConn, Name: "C"}}
				put(c, value)
				a := a
				if test.env != nil {
					a.Env = append([]string{"X1"}, test.env...)
				}
				for _, taken := range []bool{false, true} {
					warnings, err := a.CheckNames(c, taken)
					warned := !test.allowed && taken && test.env == nil
					if (err == nil) != (test.allowed || warned) || (len(warnings) > 0) != warned || err != nil && !strings.Contains(err.Error(), "${"+test.name+"}") {
						t.Errorf("%v, %s, taken %v: warnings %v, error %v", test.env, value, taken, warnings, err)
					}
				}
			}
		}
		if _, there := a.Environment(func(string) (string, bool) { return "", true })(test.name); there != test.allowed {
			t.Errorf("%v: %s is there: %v", test.env, test.name, there)
		}
	}
	for name, valid := range map[string]bool{"A": true, "A_*": true, "*": true, "": false, "A*B": false, "1": false, "A,B": false, "**": false} {
		if err := (Access{Env: []string{name}}).Valid(); (err == nil) != valid {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// What counts is where a file lies, however its name goes there.
func TestAccessFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string { return dir + "/" + strings.Join(parts, "/") } // not cleaned
	for _, folder := range []string{"secrets/..data", "secrets/deep", "other/in"} {
		if err := os.MkdirAll(at(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"secrets/pass", "secrets/..data/tls.crt", "other/passwd", "other/in/passwd", "secretsother"} {
		if err := os.WriteFile(at(file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"secrets/tls.crt": "..data/tls.crt", "secrets/out": "../other", "secrets/passwd": at("other/passwd"), "secrets/nowhere": at("other/none"), "link": at("secrets"), "secrets/back": at("other/in"),
	} {
		if err := os.Symlink(to, at(link)); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(at("secrets"))
	for _, folder := range []string{at("secrets"), at("link"), at("other", "..", "secrets", ""), "."} {
		for path, allowed := range map[string]bool{
			at("secrets/pass"): true, at("secrets/tls.crt"): true, at("link/pass"): true, at("secrets/deep/../pass"): true, at("secrets/none"): true, at("secrets/none/none"): true,
			"pass": true, "./deep/../tls.crt": true, at("secrets"): false, at("secretsother"): false, at("other/passwd"): false, at("secrets/../other/passwd"): false,
			at("secrets/out/passwd"): false, at("secrets/out/none"): false, at("secrets/passwd"): false, at("secrets/nowhere"): false, "../other/passwd": false,
			at("secrets/back/../passwd"): false, at("secrets/none/../pass"): false, "/etc/passwd": false, "/proc/self/environ": false,
		} {
			for key, c := range map[string]*Connector{"password_file": {PasswordFile: path}, "tls_ca": {Params: map[string]string{"tls_ca": path}}, "tls_key": {Params: map[string]string{"tls_key": path}}} {
				if _, err := (Access{Files: []string{"/nowhere", folder}}).CheckFiles(c, true); (err == nil) != allowed {
					t.Errorf("%s %s in %s: %v", key, path, folder, err)
				}
				if _, err := (Access{}).CheckFiles(c, false); err == nil {
					t.Errorf("%s %s is allowed by default", key, path)
				}
				if warnings, err := (Access{}).CheckFiles(c, true); err != nil || len(warnings) != 1 {
					t.Errorf("%s %s of a document that runs: %v, %v", key, path, warnings, err)
				}
				if _, err := (Access{Files: []string{"/"}}).CheckFiles(c, false); (err == nil) != (!strings.Contains(path, "nowhere") && !strings.Contains(path, "none/..")) {
					t.Errorf("%s %s in /: %v", key, path, err)
				}
			}
		}
	}
	if _, err := (Access{Files: []string{filepath.Join(dir, "none")}}).CheckFiles(&Connector{PasswordFile: at("other/passwd")}, true); err == nil {
		t.Error("a folder that is not there allows a file elsewhere")
	}
}
