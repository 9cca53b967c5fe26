package serve

import (
	"fmt"
	"html"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// The pages below /debug/pprof/ are the same as those of net/http/pprof, for "go tool pprof" and browsers. This package does not
// import net/http/pprof, because that would also add the pages to http.DefaultServeMux, which belongs to the program.

// profilePath is the path below which profiles are served.
const profilePath = "/debug/pprof/"

// maxProfileTime limits the time of one profile or trace. It is half of the server's limit for a page.
const maxProfileTime = 30 * time.Second

// handleProfiles adds the pages of profiles to a mux.
func handleProfiles(mux *http.ServeMux) {
	mux.HandleFunc("GET "+profilePath+"{$}", listProfiles)
	mux.HandleFunc("GET "+profilePath+"{name}", showProfile)
	mux.HandleFunc("GET "+profilePath+"profile", recordFor(func(w http.ResponseWriter) (func(), error) {
		return pprof.StopCPUProfile, pprof.StartCPUProfile(w)
	}))
	mux.HandleFunc("GET "+profilePath+"trace", recordFor(func(w http.ResponseWriter) (func(), error) {
		return trace.Stop, trace.Start(w)
	}))
}

// listProfiles serves the list of profiles.
func listProfiles(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	fmt.Fprint(w, "<html><body><p>Profiles; ?debug=1 shows one as text.</p><ul>")
	for _, p := range pprof.Profiles() {
		name := html.EscapeString(p.Name())
		fmt.Fprintf(w, `<li><a href="%s%s?debug=1">%s</a> (%d)</li>`, profilePath, name, name, p.Count())
	}
	fmt.Fprintf(w, `<li><a href="%[1]sprofile?seconds=10">profile</a></li><li><a href="%[1]strace?seconds=1">trace</a></li></ul></body></html>`, profilePath)
}

// showProfile serves one profile by its name, such as "heap".
func showProfile(w http.ResponseWriter, r *http.Request) {
	p := pprof.Lookup(r.PathValue("name"))
	if p == nil {
		http.Error(w, "there is no profile of this name: "+profilePath+" has the list", http.StatusNotFound)
		return
	}
	debug, _ := strconv.Atoi(r.FormValue("debug")) // 0 when the value is not a number
	if debug == 0 {
		w.Header().Set("Content-Type", "application/octet-stream")
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	_ = p.WriteTo(w, debug) // an error means that the client is gone
}

// recordFor returns the page of a recording, such as a CPU profile. The function start begins to write the recording to the
// response and returns the function that ends it. The recording ends after the number of seconds in the request, at most
// maxProfileTime, or when the client is gone; without a number it takes maxProfileTime.
func recordFor(start func(http.ResponseWriter) (stop func(), err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseFloat(r.FormValue("seconds"), 64)
		if err != nil || seconds <= 0 {
			seconds = maxProfileTime.Seconds()
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		stop, err := start(w)
		if err != nil {
			http.Error(w, fmt.Sprintf("%v: try again when the other recording has ended", err), http.StatusConflict)
			return
		}
		defer stop()
		select {
		case <-r.Context().Done():
		case <-time.After(min(time.Duration(seconds*float64(time.Second)), maxProfileTime)):
		}
	}
}
