import Glibc

/// The web servers that a lab can run, all from Debian.
public enum WebServerKind: String, Sendable, CaseIterable, Codable {
    case nginx, apache, lighttpd, caddy

    var program: String { self == .apache ? "apache2" : rawValue }

    /// The Debian package that brings it.
    var package: String {
        switch self {
        case .nginx: "nginx-light"
        case .apache: "apache2-bin"
        case .lighttpd: "lighttpd"
        case .caddy: "caddy"
        }
    }
}

/// The web server of one back-end: its own prefix, configuration, pid file and logs below the lab's directory.
struct WebServer {
    let plan: LabPlan
    let node: String
    let webRoot: String
    var kind = WebServerKind.nginx
    /// Whether nginx listens on IPv6 too.
    var ipv6 = false
    /// More ports at which nginx listens.
    var ports: [UInt16] = []

    var prefix: String { plan.directory + "/" + node + "/nginx" }
    var root: String { webRoot + "/" + node }
    var command: [String] {
        switch kind {
        case .nginx: ["nginx", "-p", prefix, "-c", prefix + "/nginx.conf", "-e", prefix + "/error.log"]
        case .apache: ["apache2", "-d", "/usr/lib/apache2", "-f", prefix + "/apache.conf", "-D", "FOREGROUND"]
        case .lighttpd: ["lighttpd", "-D", "-f", prefix + "/lighttpd.conf"]
        case .caddy:
            [
                "env", "HOME=\(prefix)", "XDG_DATA_HOME=\(prefix)", "XDG_CONFIG_HOME=\(prefix)", "caddy", "run",
                "--config", prefix + "/Caddyfile", "--adapter", "caddyfile",
            ]
        }
    }

    /// Debian's nginx-light brings `echo_sleep`, with which a reply can take its time.
    static let echoModule = "/usr/lib/nginx/modules/ngx_http_echo_module.so"

    func prepare() throws {
        try makeDirectory(prefix + "/tmp")
        try makeDirectory(root)
        switch kind {
        case .nginx: try writeFile(prefix + "/nginx.conf", configuration)
        case .apache: try writeFile(prefix + "/apache.conf", apacheConfiguration)
        case .lighttpd: try writeFile(prefix + "/lighttpd.conf", lighttpdConfiguration)
        case .caddy: try writeFile(prefix + "/Caddyfile", caddyConfiguration)
        }
    }

    private var configuration: String {
        """
        load_module \(WebServer.echoModule);
        user www-data;
        daemon off;
        master_process on;
        worker_processes 2;
        worker_rlimit_nofile 65536;
        pid \(prefix)/nginx.pid;
        error_log \(prefix)/error.log warn;
        events { worker_connections 32768; }
        http {
            sendfile on;
            default_type application/octet-stream;
            access_log \(prefix)/access.log combined;
            keepalive_timeout 65s;
            client_max_body_size 0;
            client_body_temp_path \(prefix)/tmp/body;
            proxy_temp_path \(prefix)/tmp/proxy;
            fastcgi_temp_path \(prefix)/tmp/fastcgi;
            uwsgi_temp_path \(prefix)/tmp/uwsgi;
            scgi_temp_path \(prefix)/tmp/scgi;
            server {
                listen 80;\(ipv6 ? " listen [::]:80;" : "")\(ports.map { " listen \($0);" }.joined())
                root \(root);
                # The server thinks for a second before the first byte of its reply.
                location = /slow {
                    default_type text/plain;
                    echo_sleep 1;
                    echo "an answer that took a second";
                }
                # A reply that says nothing of its file: neither tag nor date.
                location /bare/ {
                    alias \(root)/;
                    etag off;
                    add_header Last-Modified "";
                }
                # Compressed on the fly, in chunks.
                location /zipped/ {
                    alias \(root)/;
                    gzip on;
                    gzip_types *;
                }
                # Takes a whole request body before it answers.
                location = /upload {
                    default_type text/plain;
                    echo_read_request_body;
                    echo "taken";
                }
            }
        }

        """
    }
}
