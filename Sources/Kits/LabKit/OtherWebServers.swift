// Configurations of the web servers beside nginx: static files, kept-alive connections, and what is usual otherwise.

extension WebServer {
    var apacheConfiguration: String {
        """
        LoadModule mpm_event_module modules/mod_mpm_event.so
        LoadModule authz_core_module modules/mod_authz_core.so
        LoadModule alias_module modules/mod_alias.so
        LoadModule filter_module modules/mod_filter.so
        LoadModule deflate_module modules/mod_deflate.so
        DefaultRuntimeDir \(prefix)
        PidFile \(prefix)/apache.pid
        User www-data
        Group www-data
        Listen 80
        ServerName lab
        DocumentRoot \(root)
        ErrorLog \(prefix)/error.log
        KeepAlive On
        KeepAliveTimeout 65
        MaxKeepAliveRequests 100
        <Directory \(root)>
            Require all granted
        </Directory>
        # Compressed on the fly, in chunks.
        Alias /zipped \(root)
        <Location /zipped>
            SetOutputFilter DEFLATE
        </Location>

        """
    }

    var lighttpdConfiguration: String {
        """
        server.document-root = "\(root)"
        server.port = 80
        server.username = "www-data"
        server.groupname = "www-data"
        server.max-keep-alive-idle = 65
        mimetype.assign = ( "" => "application/octet-stream" )

        """
    }

    var caddyConfiguration: String {
        """
        {
            auto_https off
            admin off
        }
        :80 {
            bind 0.0.0.0
            root * \(root)
            # Compressed on the fly, in chunks.
            handle_path /zipped/* {
                encode {
                    gzip
                    match status 200
                }
                file_server
            }
            file_server
        }

        """
    }
}
