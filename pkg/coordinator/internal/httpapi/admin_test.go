package httpapi_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	pb "github.com/kisgrid/kisgrid/proto/kisgrid/v1"
)

// ask makes a request, and returns its answer and the answer's body.
func ask(t *testing.T, method, path, body string) (*http.Request, *http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+at+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, response, string(text)
}

// description reads the description that the server gives, and checks that it is valid.
func description(t *testing.T) *openapi3.T {
	t.Helper()
	_, response, text := ask(t, "GET", "/openapi.json", "") //nolint:bodyclose // ask has closed it
	if response.StatusCode != http.StatusOK || response.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d: %.300s", response.StatusCode, text)
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestDescription: the description is valid, and has every call of Admin.
func TestDescription(t *testing.T) {
	t.Parallel()
	doc := description(t)
	known := map[string]bool{}
	for _, item := range doc.Paths.Map() {
		for _, operation := range item.Operations() {
			known[operation.OperationID] = true
		}
	}
	for _, m := range pb.Admin_ServiceDesc.Methods {
		if !known["Admin_"+m.MethodName] {
			t.Errorf("the description lacks the call %s: run make proto", m.MethodName)
		}
	}
	for _, s := range pb.Admin_ServiceDesc.Streams {
		if !known["Admin_"+s.StreamName] {
			t.Errorf("the description lacks the call %s: run make proto", s.StreamName)
		}
	}
	if doc.Paths.Value("/v1/flows/{flow}/rows") == nil {
		t.Error("the description lacks rows")
	}
}

// TestCallsAsDescribed: the answers of calls are those that the description promises.
func TestCallsAsDescribed(t *testing.T) {
	t.Parallel()
	doc := description(t)
	doc.Servers = openapi3.Servers{{URL: "http://" + at}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	apply, err := json.Marshal(map[string]any{"dry_run": true, "documents": []map[string]any{{
		"kind": "flow", "name": "New", "yaml": []byte("kistype: flow\nflow_name: New\nstatus: 1\nflows: [{fname: Pass}]\n"),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		has                string
	}{
		{"GET", "/v1/version", "", 200, `"platform"`},
		{"GET", "/v1/resources/flows", "", 200, `"name":"Fussy"`},
		{"GET", "/v1/resources/flows/Pass", "", 200, `"state":"active"`},
		{"GET", "/v1/resources/flows/None", "", 404, `"code":"NOT_FOUND"`},
		{"GET", "/v1/resources/nonsense", "", 404, `"code"`},
		{"GET", "/v1/flows/Pass/history", "", 200, `"revisions"`},
		{"GET", "/v1/flows/Pass/explain?key=7", "", 200, `"worker"`},
		{"GET", "/v1/flows/Pass/rollout", "", 200, `"state":"active"`},
		{"GET", "/v1/dead?filter.flow=Pass", "", 200, ``},
		{"POST", "/v1/apply", string(apply), 200, `"action":"create"`},
		{"POST", "/v1/apply", `{"documents":`, 400, `"code":"BAD_MESSAGE"`},
		{"POST", "/v1/apply", `{"nonsense":1}`, 400, `"code":"BAD_MESSAGE"`},
		{"POST", "/v1/delete", `{"documents":[{"kind":"flow","name":"None"}]}`, 404, `"code":"NOT_FOUND"`},
		{"POST", "/v1/dead/drop", `{"filter":{"flow":"Pass"},"dry_run":true}`, 200, ``},
		{"POST", "/v1/dead/drop", `{"filter":{"flow":"Pass","where":"true"},"dry_run":true}`, 400, `"code":"BAD_MESSAGE"`}, // and not all letters of the flow
		{"POST", "/v1/dead/redrive", `{"filter":{"flow":"Pass","code":"nonsense"},"dry_run":true}`, 400, `"code":"BAD_MESSAGE"`},
		{"POST", "/v1/version", "", 405, `"code"`},
	} {
		r, response, text := ask(t, c.method, c.path, c.body)
		if response.StatusCode != c.status || !strings.Contains(strings.ReplaceAll(text, `": "`, `":"`), c.has) {
			t.Errorf("%s %s: %d %.400s, want %d with %q", c.method, c.path, response.StatusCode, text, c.status, c.has)
			continue
		}
		if response.StatusCode == http.StatusMethodNotAllowed {
			continue // the description has no such operation
		}
		route, params, err := router.FindRoute(r)
		if err != nil {
			t.Errorf("%s %s is not described: %v", c.method, c.path, err)
			continue
		}
		for line := range strings.Lines(text) { // a stream has one answer in each line
			err := openapi3filter.ValidateResponse(t.Context(), &openapi3filter.ResponseValidationInput{
				RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
				Status:                 response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader([]byte(line))),
				Options: &openapi3filter.Options{IncludeResponseStatus: true},
			})
			if err != nil {
				t.Errorf("%s %s: %v", c.method, c.path, err)
			}
		}
	}
}
